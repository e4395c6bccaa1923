"""Kueue on the cluster: its own program, by its own chart."""

import json
from typing import Any, Final

import yaml

from chart.helm import given, helm
from cluster import images
from cluster.build import binary, module_folder
from cluster.process import CommandError, run
from cluster.sources import SOURCES
from cluster.testbed import Cluster
from e2e.installation import split, until

NAMESPACE: Final = "kueue-system"
MODULE: Final = "sigs.k8s.io/kueue"
MANAGER: Final = "controllerManager.manager"
CONFIGURATION: Final = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "metrics": {"bindAddress": ":8443"},
    "webhook": {"port": 9443},
    "integrations": {"frameworks": ["batch/job"]},
}
PROBE: Final = {
    "apiVersion": "kueue.x-k8s.io/v1beta2",
    "kind": "ResourceFlavor",
    "metadata": {"name": "probe"},
}
LEFT_OUT: Final = "APIService"
"""Its list of pending workloads, which needs an API server that others may extend."""

Object = dict[str, Any]


class Kueue:
    """All that its chart has, for as long as it is installed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._objects = self._rendered()

    def install(self) -> None:
        """Waits until it answers for Jobs, too."""
        self._kubectl("create", "namespace", NAMESPACE)
        self._kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=self._text())
        self._kubectl("rollout", "status", f"--namespace={NAMESPACE}", "--timeout=180s", "deployment")
        until(self._answers, 120)

    def uninstall(self) -> None:
        """Once it has let go of the last Workload: nobody else can."""
        left = ("get", "workloads.kueue.x-k8s.io", "--all-namespaces", "--output=name")
        until(lambda: not self._kubectl(*left).strip(), 120)
        self._kubectl("delete", "--ignore-not-found", "-f", "-", stdin=self._text())
        self._kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    def _answers(self) -> bool:
        """Whether the API server reaches its webhooks: not always as soon as it says that it is ready."""
        try:
            self._kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(PROBE))
        except CommandError:
            return False
        return True

    def _text(self) -> str:
        return yaml.safe_dump_all(self._objects)

    def _rendered(self) -> list[Object]:
        chart = module_folder(SOURCES["kueue"], MODULE) / "charts" / "kueue"
        registry, name, tag = split(self._cluster.offer(images.program("kueue", called="manager")))
        values = {
            f"{MANAGER}.image.repository": f"{registry}/{name}",
            f"{MANAGER}.image.tag": tag,
            f"{MANAGER}.image.pullPolicy": "IfNotPresent",
            f"{MANAGER}.resources.requests": {"cpu": "50m", "memory": "128Mi"},
            "controllerManager.featureGates": [{"name": "VisibilityOnDemand", "enabled": False}],
            "managerConfig.controllerManagerConfigYaml": json.dumps(CONFIGURATION),
        }
        text = helm(
            "template", "kueue", str(chart), f"--namespace={NAMESPACE}", "--include-crds", *given(values)
        )
        found = yaml.load_all(text, yaml.CSafeLoader)
        return [made for made in found if made and made["kind"] != LEFT_OUT]

    def _kubectl(self, *arguments: str, stdin: str = "") -> str:
        return run(
            str(binary("kubectl")),
            f"--kubeconfig={self._cluster.kubeconfig}",
            *arguments,
            stdin=stdin,
            within=300,
        )

"""The operator on a cluster, installed as the README says: with helm, from the images that users build."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from chart.helm import CHARTS, OPERATOR, given, helm
from cluster import product
from cluster.build import binary
from cluster.process import run
from cluster.testbed import Cluster

NAMESPACE = "lorafinetune-system"
DEFINITION = "lorafinetunes.lorafinetune.dev"
T = TypeVar("T")


class Installation:
    """One release of the chart."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def install(self, values: Mapping[str, Any] | None = None, chart: Path = CHARTS / OPERATOR) -> None:
        """Installs the chart or upgrades it, and waits until the operator is ready."""
        self._make_namespace()
        helm(
            "upgrade",
            OPERATOR,
            str(chart),
            "--install",
            "--create-namespace",
            "--wait",
            "--timeout=3m",
            f"--namespace={NAMESPACE}",
            f"--kubeconfig={self.cluster.kubeconfig}",
            *given(self.images(product.product()) | dict(values or {})),
        )

    def _make_namespace(self) -> None:
        """One in which pods must be restricted. Where it is there already, it stays as it is."""
        label = "pod-security.kubernetes.io/enforce=restricted"
        if not self.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"):
            self.kubectl("create", "namespace", NAMESPACE)
            self.kubectl("label", "namespace", NAMESPACE, label)

    def uninstall(self) -> None:
        helm("uninstall", OPERATOR, f"--namespace={NAMESPACE}", f"--kubeconfig={self.cluster.kubeconfig}")
        self.kubectl("delete", "crd", DEFINITION)
        self.kubectl("delete", "namespace", NAMESPACE)

    def is_there(self) -> bool:
        """Whether the cluster knows our resource, whoever installed it."""
        return bool(self.kubectl("get", "crd", DEFINITION, "--ignore-not-found"))

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints. A refusal is a CommandError with its message."""
        return run(str(binary("kubectl")), f"--kubeconfig={self.cluster.kubeconfig}", *arguments, within=300)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def operator_pod(self) -> str:
        """Name of the operator's pod, once there is one that is ready."""

        def ready() -> str:
            pods = self.get(
                "pods", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=lorafinetune"
            )
            return next((str(pod["metadata"]["name"]) for pod in pods["items"] if _is_ready(pod)), "")

        return until(ready, 120)

    def images(self, references: Mapping[str, str]) -> dict[str, Any]:
        """The values of the chart that have it use these images, by the names that it has for them."""
        values: dict[str, Any] = {}
        for name, reference in references.items():
            registry, repository, tag = split(self.cluster.offer(reference))
            values |= {
                "images.registry": registry,
                f"images.{name}.repository": repository,
                f"images.{name}.tag": tag,
            }
        return values


def split(reference: str) -> tuple[str, str, str]:
    """`HOST/PREFIX/NAME:TAG` → registry, repository, tag."""
    path, _, tag = reference.rpartition(":")
    registry, _, name = path.rpartition("/")
    return registry, name, tag


def until(found: Callable[[], T], within: float) -> T:
    """What `found` returns, once it is something."""
    deadline = time.monotonic() + within
    while not (something := found()):
        assert time.monotonic() < deadline, f"nothing after {within:.0f} s"
        time.sleep(0.2)
    return something


def _is_ready(pod: Mapping[str, Any]) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return any(
        c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", [])
    )

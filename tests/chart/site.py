"""A real API server with helm and kubectl that reach it: what a chart does to a cluster but run pods."""

import json
import ssl
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chart.helm import CHARTS, Object, Values, given, helm
from cluster.apiserver import ApiServer
from cluster.build import binary
from cluster.process import CommandError, fetch, run

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
STRANGER = ("default", "stranger")
WITHIN = 30

Permission = tuple[str, str, str]
"""verb, API group, resource; for a path that is no resource: verb, "", path."""


@dataclass(frozen=True)
class Site:
    server: ApiServer

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints. A refusal is a CommandError with its message."""
        return run(str(binary("kubectl")), f"--kubeconfig={self.server.kubeconfig}", *arguments, stdin=stdin)

    def refusal(self, *arguments: str, given: Object | None = None) -> str:
        """Why the API server refuses what kubectl asks with an object; nothing, if it does it."""
        try:
            self.kubectl(*arguments, *(() if given is None else ("--filename=-",)), stdin=json.dumps(given))
        except CommandError as refused:
            return str(refused)
        return ""

    def await_refusal(self, *arguments: str, given: Object) -> None:
        """Try until it is refused: a server takes up a policy some moments after it has it."""
        deadline = time.monotonic() + WITHIN
        while not self.refusal(*arguments, "--dry-run=server", given=given):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def define(self, file: Path) -> None:
        """Have a definition, and wait until it is served: kubectl fails where it has no conditions yet."""
        self.kubectl("apply", "--server-side", f"--filename={file}")
        deadline = time.monotonic() + WITHIN
        while refused := self.refusal("wait", "--for=condition=Established", f"--filename={file}"):
            assert time.monotonic() < deadline, refused
            time.sleep(0.2)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def install(self, release: str, chart: Path | str, namespace: str, values: Values | None = None) -> None:
        """Install a release or upgrade it: its values are these and no others."""
        self.helm(
            "upgrade",
            release,
            str(CHARTS / chart),
            "--install",
            f"--namespace={namespace}",
            *given(values or {}),
        )

    def helm(self, *arguments: str) -> str:
        return helm(*arguments, f"--kubeconfig={self.server.kubeconfig}")

    def new_namespace(self, name: str) -> str:
        self.kubectl("create", "namespace", name)
        self.kubectl("label", "namespace", name, RESTRICTED)
        return name

    def permissions(self, namespace: str, account: str, inside: str) -> set[Permission]:
        """What an account of a namespace may do inside another, beyond what every account may."""
        stranger = self._rules(*STRANGER, inside)
        return self._rules(namespace, account, inside) - stranger

    def _rules(self, namespace: str, account: str, inside: str) -> set[Permission]:
        token = self.kubectl("create", "token", account, f"--namespace={namespace}").strip()
        request = urllib.request.Request(
            self.server.url + RULES,
            data=json.dumps({"spec": {"namespace": inside}}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.server.ca_file))
        status = json.loads(fetch(request, context))["status"]
        assert not status["incomplete"]
        return {*_resources(status), *_paths(status)}


def _resources(status: Object) -> list[Permission]:
    return [
        (verb, group, resource)
        for rule in status["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]


def _paths(status: Object) -> list[Permission]:
    rules = status["nonResourceRules"]
    return [(verb, "", path) for rule in rules for verb in rule["verbs"] for path in rule["nonResourceURLs"]]

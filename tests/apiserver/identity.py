"""The operator's service account, with the rights that the chart gives it and no others."""

from pathlib import Path
from typing import Any

import yaml

from cluster.apiserver import ApiServer
from cluster.client import Client
from cluster.kubeconfig import kubeconfig

RULES = Path("charts/lorafinetune/templates/_rules.tpl")
SYSTEM = "kube-system"
NAME = "lorafinetune"
RBAC = "rbac.authorization.k8s.io"


def operator_kubeconfig(server: ApiServer, directory: Path) -> Path:
    """Makes the account, and writes how it logs in."""
    client = Client(server.kubeconfig)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": SYSTEM}}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules()}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": SYSTEM}],
    }
    for document in (account, role, binding):
        client.apply(document)
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{NAME}/token"
    token = client.request("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    file = directory / "operator.kubeconfig"
    file.write_text(kubeconfig(server.url, server.ca_file.read_bytes(), token))
    return file


def rules() -> list[dict[str, Any]]:
    """From the chart's first template, of which all but the braces is YAML."""
    (template,) = (part for part in RULES.read_text().split("{{- end }}") if '"lorafinetune.rules"' in part)
    lines = [line for line in template.splitlines() if not line.startswith("{{")]
    found: list[dict[str, Any]] = yaml.safe_load("\n".join(lines))
    return found

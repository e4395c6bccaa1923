"""Jobs for tests: a script in a restricted pod, and what it says when it ends."""

import secrets
from typing import Any

from cluster import images
from cluster.client import Document
from cluster.testbed import Cluster

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def new_namespace(cluster: Cluster) -> str:
    """A namespace of its own, in which pods must be restricted."""
    name = f"test-{secrets.token_hex(4)}"
    metadata = {"name": name, "labels": RESTRICTED}
    cluster.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return name


def python_job(cluster: Cluster, namespace: str, script: str, **pod: Any) -> Document:
    """A Job that runs a Python script as nobody in particular; `pod` overrides parts of its pod."""
    container = {
        "name": "main",
        "image": cluster.offer(images.base()),
        "command": ["python3", "-c", script],
        "securityContext": CONTAINER_SECURITY,
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [{**container, **pod.pop("container", {})}],
        "restartPolicy": "Never",
        "securityContext": POD_SECURITY,
    }
    metadata = {"name": f"job-{secrets.token_hex(4)}", "namespace": namespace}
    job = {"template": {"spec": {**spec, **pod}}, "backoffLimit": 0}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job}


def outcome(cluster: Cluster, job: Document, within: float = 60) -> str:
    """Run it, and return the message that its pod ended with."""
    message: str = termination(cluster, job, within).get("message", "")
    return message


def termination(cluster: Cluster, job: Document, within: float = 60) -> Document:
    """Run it, and return how its container ended: exit code, message and more."""
    place, name = job["metadata"]["namespace"], job["metadata"]["name"]
    cluster.client.apply(job)
    cluster.client.wait(f"/apis/batch/v1/namespaces/{place}/jobs/{name}", _ended, within)
    pods = cluster.client.get(f"/api/v1/namespaces/{place}/pods?labelSelector=job-name%3D{name}")["items"]
    ended: Document = pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    return ended


def _ended(job: Document) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

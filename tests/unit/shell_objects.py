"""Objects as the API server gives them, with all that nobody reads."""

from typing import Any

from builders import document, merged
from lorafinetune.api import API_VERSION, KIND
from lorafinetune.core.observed import (
    ATTEMPT_ANNOTATION,
    GENERATION_ANNOTATION,
    NAME_LABEL,
    OURS,
    STAGE_LABEL,
)
from lorafinetune.core.pods import JOB_LABEL

NOISE = {"managedFields": [{"manager": "kubectl"}], "selfLink": "/x"}


def stored(name: str = "tune", version: int = 1, **changes: Any) -> dict[str, Any]:
    """A LoRAFineTune."""
    notes = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "lorafinetune.dev/refresh": "1"}
    made = document(
        name=name, uid=f"uid-{name}", generation=1, resourceVersion=str(version), annotations=notes
    )
    return merged(made, {"metadata": NOISE} | changes)


def job(name: str = "job", version: int = 1, owner: str = "tune", **changes: Any) -> dict[str, Any]:
    """A Job of a LoRAFineTune."""
    reference = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": owner,
        "uid": f"uid-{owner}",
        "controller": True,
    }
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "labels": dict([OURS]) | {STAGE_LABEL: "download", NAME_LABEL: owner, "someone/else": "x"},
        "annotations": {ATTEMPT_ANNOTATION: "1", GENERATION_ANNOTATION: "1", "someone/else": "x"},
        "ownerReferences": [reference],
    }
    made = {
        "metadata": metadata | NOISE,
        "spec": {"suspend": False, "template": {"spec": {"containers": []}}},
        "status": {"active": 1, "uncountedTerminatedPods": {}},
    }
    return merged(made, changes)


def pod(name: str = "pod", version: int = 1, of: str = "job", **changes: Any) -> dict[str, Any]:
    """A Pod of a Job, as the cluster's controller makes it."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": of, "uid": f"uid-{of}", "controller": True}
    state = {"terminated": {"exitCode": 0, "message": "{}"}}
    container = {"name": "download", "state": state, "lastState": {}, "image": "d:1", "ready": False}
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "labels": dict([OURS]) | {JOB_LABEL: of, NAME_LABEL: "tune"},
        "ownerReferences": [owner],
    }
    made = {
        "metadata": metadata | NOISE,
        "spec": {"nodeName": "node-1", "containers": [{"name": "download"}]},
        "status": {"phase": "Succeeded", "podIP": "10.0.0.1", "containerStatuses": [container]},
    }
    return merged(made, changes)


def warning(
    kind: str = "Job", name: str = "job", message: str = "exceeded quota", **changes: Any
) -> dict[str, Any]:
    """An Event."""
    made = {
        "metadata": {"name": "e", "namespace": "team-a"},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": message,
        "involvedObject": {"kind": kind, "name": name, "uid": f"uid-{name}", "apiVersion": "v1"},
        "source": {"component": "job-controller"},
    }
    return merged(made, changes)

"""Objects as the API server sends them → the small part of them that a decision reads.

Five thousand runs must fit in little memory, and an object may be as large as its author likes. An object
that is not shaped like one of ours becomes None.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from lorafinetune.api import API_VERSION, GROUP, KIND
from lorafinetune.api.status import MOST_STEPS
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.observed import (
    ATTEMPT_ANNOTATION,
    CHECKPOINT_ANNOTATION,
    GENERATION_ANNOTATION,
    OURS,
    STAGE_LABEL,
)
from lorafinetune.core.pods import job_of
from lorafinetune.core.queueing import WORKLOAD

Object = Mapping[str, Any]
Trim = Callable[[Object], dict[str, Any] | None]

PREFIX: Final = f"{GROUP}/"
LABELS: Final = (PREFIX, "app.kubernetes.io/", "batch.kubernetes.io/")
METADATA: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
CONTAINER: Final = ("name", "image", "state", "lastState")
EVENT_TIMES: Final = ("lastTimestamp", "eventTime", "series")


def resource(obj: Object) -> dict[str, Any]:
    """A LoRAFineTune with all of its spec and status."""
    trimmed = _only(obj, "apiVersion", "kind", "spec", "status")
    return trimmed | {"metadata": _metadata(obj, "generation")}


def job(obj: Object) -> dict[str, Any] | None:
    """A Job that one of our resources controls."""
    trimmed = {
        "metadata": _metadata(obj, "ownerReferences"),
        "spec": _only(obj.get("spec", {}), "suspend", "ttlSecondsAfterFinished"),
        "status": _only(obj.get("status", {}), "startTime", "conditions", "active", "failed", "succeeded"),
    }
    return trimmed if _is_managed(obj) and controller(trimmed) and _is_noted(trimmed) else None


def pod(obj: Object) -> dict[str, Any] | None:
    """A Pod that a Job controls."""
    if not _is_managed(obj) or not job_of(obj):
        return None
    status = obj.get("status", {})
    trimmed = _only(status, "phase", "reason", "message", "startTime", "conditions")
    for group in ("containerStatuses", "initContainerStatuses"):
        if group in status:
            trimmed[group] = [_only(container, *CONTAINER) for container in status[group]]
    metadata = _metadata(obj, "deletionGracePeriodSeconds", "ownerReferences")
    return {"metadata": metadata, "spec": _only(obj.get("spec", {}), "nodeName"), "status": trimmed}


def event(obj: Object) -> dict[str, Any] | None:
    """A Warning about a Job, a Pod, or what a queue made for a Job."""
    about = _only(obj.get("involvedObject") or {}, "kind", "name", "uid")
    if about.get("kind") not in ("Job", "Pod", WORKLOAD) or obj.get("type") != "Warning":
        return None
    return _only(obj, "type", "reason", "message", "count", *EVENT_TIMES) | {"involvedObject": about}


def controller(obj: Object) -> Object | None:
    """The reference to the LoRAFineTune that controls an object."""
    references: Iterable[Object] = obj["metadata"].get("ownerReferences", [])
    ours = (r for r in references if (r.get("apiVersion"), r.get("kind")) == (API_VERSION, KIND))
    return next((reference for reference in ours if reference.get("controller")), None)


def _metadata(obj: Object, *more: str) -> dict[str, Any]:
    metadata = obj["metadata"]
    trimmed = _only(metadata, *METADATA, *more)
    for field, prefixes in (("labels", LABELS), ("annotations", (PREFIX,))):
        notes = {n: v for n, v in (metadata.get(field) or {}).items() if n.startswith(prefixes)}
        if notes:
            trimmed[field] = notes
    return trimmed


def _is_managed(obj: Object) -> bool:
    name, value = OURS
    return (obj["metadata"].get("labels") or {}).get(name) == value


def _is_noted(trimmed: Object) -> bool:
    """Whether a Job says of itself what we write on ours: anybody may make one that looks alike."""
    metadata = trimmed["metadata"]
    notes = metadata.get("annotations", {})
    numbers = (
        notes.get(ATTEMPT_ANNOTATION, ""),
        notes.get(GENERATION_ANNOTATION, ""),
        notes.get(CHECKPOINT_ANNOTATION, "0"),  # an older operator does not write it
    )
    return all(map(_is_count, numbers)) and metadata.get("labels", {}).get(STAGE_LABEL) in STAGES


def _is_count(text: str) -> bool:
    """Whether it is a number that a status can hold. Python does not read one of any length."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(MOST_STEPS)) and int(text) <= MOST_STEPS


def _only(obj: Object, *names: str) -> dict[str, Any]:
    return {name: obj[name] for name in names if name in obj}

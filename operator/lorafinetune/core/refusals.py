"""What only Warning events tell: why a Job gets no pod, and why a pod can't be set up.

Quota, Pod Security, LimitRange and a missing ServiceAccount appear nowhere else.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.pods import brief

Object = Mapping[str, Any]

POD_NAME: Final = re.compile(r'^Error creating: (pods "[^"]*" is forbidden: )?')
NO_ACCOUNT: Final = re.compile(r'serviceaccount "([^"]+)" not found')
SETTING_UP: Final = frozenset({"FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"})
"""Reasons that stand for a pod which its node has, and can't start."""


def trouble_of_warnings(job: Object, pods: list[Object], events: Iterable[Object]) -> StageError | None:
    """The newest warning that still holds: of the Job while it has no pod, of a pod that waits."""
    uids = {pod["metadata"].get("uid") for pod in pods if _waits(pod)}
    newest = sorted(events, key=when, reverse=True)
    if not pods:
        about = (
            event for event in newest if event["involvedObject"].get("uid") == job["metadata"].get("uid")
        )
        return next((_refused(event) for event in about if event.get("reason") == "FailedCreate"), None)
    about = (event for event in newest if event["involvedObject"].get("uid") in uids)
    return next((_not_set_up(event) for event in about if event.get("reason") in SETTING_UP), None)


def refusal(message: str) -> StageError:
    """Why the API server refused to create an object, from its answer."""
    told = POD_NAME.sub("", message)
    if account := NO_ACCOUNT.search(told):
        hint = f"Create the ServiceAccount {account[1]}, or correct spec.scheduling.serviceAccountName."
        return StageError(Reason.ADMISSION_DENIED, f"the ServiceAccount {account[1]} does not exist", hint)
    reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in told else Reason.ADMISSION_DENIED
    return StageError(reason, brief(told))


def _refused(event: Object) -> StageError:
    return refusal(str(event.get("message", "")))


def _not_set_up(event: Object) -> StageError:
    return StageError(Reason.ADMISSION_DENIED, brief(str(event.get("message", ""))))


def _waits(pod: Object) -> bool:
    states = [status.get("state", {}) for status in pod.get("status", {}).get("containerStatuses", [])]
    return bool(states) and all("waiting" in state for state in states)


def when(event: Object) -> str:
    """The time of an event: of two, the later comes later in the order of texts, too."""
    series = event.get("series") or {}
    return str(event.get("lastTimestamp") or series.get("lastObservedTime") or event.get("eventTime") or "")

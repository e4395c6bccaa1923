"""What Pods say of themselves: how they ended, and what keeps them from starting.

A message must not change while the cause stays, or the status would be written for ever: the kubelet's
texts are cut to their constant part.
"""

import signal
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.safetext import safe
from lorafinetune.contract.outcome import BY_BUS_ERROR, ExitCode, StageError
from lorafinetune.contract.times import moment
from lorafinetune.core.logtail import log_tail

Object = Mapping[str, Any]

JOB: Final = ("batch/v1", "Job")
JOB_LABEL: Final = "batch.kubernetes.io/job-name"
INDEX_LABEL: Final = "batch.kubernetes.io/job-completion-index"
LOST_AFTER: Final = timedelta(seconds=60)
"""A pod that is still there this long after it should have ended is on a node that does not answer."""
DISRUPTED: Final = "DisruptionTarget"
"""Condition of a pod that is evicted, preempted or driven off its node."""
NO_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
NOT_CREATED: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
NOT_YET_READ: Final = "failed to sync "
"""How a kubelet begins that has not been told of a Secret or a ConfigMap yet, which passes."""
REJECTED: Final = ("OutOf", "UnexpectedAdmissionError", "NodeAffinity", "Preempting")
"""How the reasons begin for which a kubelet refuses a pod that the scheduler gave it."""
BUS_ERROR: Final = 128 + signal.SIGBUS
"""Exit code of a container whose program read from a mapped file what is not there any more."""
MAX_DETAIL: Final = 500
"""Characters of what somebody else wrote."""


def job_of(pod: Object) -> str:
    """Name of the Job that controls the pod; empty where none does. A label is no proof: a pod that nothing
    controls may carry any and stay for ever, while one whose controller is gone is removed by the cluster."""
    owner = controller_of(pod)
    return str(owner.get("name", "")) if (owner.get("apiVersion"), owner.get("kind")) == JOB else ""


def has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp")) and not has_ended(pod)


def controller_of(obj: Object) -> Object:
    """The reference to what controls an object; empty where nothing does."""
    owners = obj["metadata"].get("ownerReferences", [])
    return next((owner for owner in owners if owner.get("controller")), {})


def node_of(pod: Object) -> int:
    """Which pod of a training on several nodes it is, from 0 on; 0 of any other."""
    index = str(pod["metadata"].get("labels", {}).get(INDEX_LABEL, ""))
    return int(index) if index.isascii() and index.isdigit() else 0


def newest_of_each(pods: Iterable[Object]) -> list[Object]:
    """The newest pod of each node, from the first node on. pods: newest first."""
    found: dict[int, Object] = {}
    for pod in pods:
        found.setdefault(node_of(pod), pod)
    return [found[node] for node in sorted(found)]


def newest_first(pods: Iterable[Object]) -> list[Object]:
    return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True)


def terminated(pods: Iterable[Object]) -> list[Object]:
    """How the containers of the pods ended, where they did."""
    return [state["terminated"] for pod in pods for state in _states(pod) if "terminated" in state]


def failure_of_job(condition: Object) -> StageError | None:
    """What the Job's own `Failed` condition says that no pod knows."""
    if condition.get("reason") == "DeadlineExceeded":
        return StageError(Reason.DEADLINE_EXCEEDED, "the attempt took longer than activeDeadlineSeconds")
    return None


def failure_without_words(conditions: Mapping[str, Object], pods: list[Object]) -> StageError:
    """Why a Job failed whose pods, newest first, say nothing that we understand. conditions: of the Job, by
    type. What stands in the place of our message is the end of the log."""
    ended = next(iter(terminated(pods)), None)
    if ended is None:
        said = conditions["Failed"].get("message", "no pod")
        return StageError(Reason.INTERNAL, f"the stage ended without a word: {said}")
    if ended.get("exitCode") == ExitCode.STOPPED:
        return StageError(Reason.PREEMPTED, "the stage stopped early")
    reason, message = _by_exit_code(ended.get("exitCode"))
    log = log_tail(str(ended.get("message", "")))
    return StageError(reason, f"{message}; its log ends:\n{log}" if log else message)


def _by_exit_code(code: object) -> tuple[Reason, str]:
    """What can be said of a stage that left no message."""
    if code == BUS_ERROR:
        return Reason.DATA_UNREADABLE, f"the stage was ended {BY_BUS_ERROR}"
    return Reason.INTERNAL, f"the stage ended without a word: exit code {code}"


def without_words(pod: Object) -> StageError | None:
    """What is to be said of a pod of several that ended for no reason that it, or its status, tells."""
    codes = [ended.get("exitCode") for ended in terminated([pod])]
    if pod.get("status", {}).get("phase") != "Failed":
        return None
    how = f": exit code {codes[0]}" if codes else ""
    name = pod["metadata"].get("name", "")
    return StageError(Reason.RANK_LOST, f"the pod {name} ended without a word{how}")


def failure_of(pod: Object) -> StageError | None:
    """Why a pod failed that left no message, where its status tells."""
    status = pod.get("status", {})
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    if any(state.get("reason") == "OOMKilled" for state in terminated([pod])):
        return StageError(Reason.HOST_OUT_OF_MEMORY, "the stage was killed for its use of memory")
    if reason == "Evicted" and "exceeds the" in message:
        return StageError(Reason.DISK_FULL, f"the pod was evicted: {brief(message)}")
    if reason.startswith(REJECTED):
        return StageError(Reason.UNSCHEDULABLE, f"the node refused the pod: {brief(message) or reason}")
    if reason == "Evicted" or _condition(pod, DISRUPTED):
        return _taken_away(pod)
    if pod["metadata"].get("deletionTimestamp"):
        return StageError(Reason.PREEMPTED, "the pod was deleted")
    return None


def disruption_of(pods: list[Object]) -> StageError | None:
    """Why the cluster takes, or took, the newest of the pods away, where nothing has replaced it yet."""
    there = (pod for pod in newest_of_each(pods) if pod.get("status", {}).get("phase") != "Succeeded")
    return next((_taken_away(pod) for pod in there if is_disrupted(pod)), None)


def is_disrupted(pod: Object) -> bool:
    return _condition(pod, DISRUPTED) is not None


def _taken_away(pod: Object) -> StageError:
    """It names its pod, so that each is told, and says why, where the cluster does."""
    why = str((_condition(pod, DISRUPTED) or pod["status"]).get("message", ""))
    name = pod["metadata"].get("name", "")
    told = f"the pod {name} was evicted or preempted"
    return StageError(Reason.PREEMPTED, f"{told}: {brief(why)}" if why else told)


def trouble_of_pods(alive: Iterable[Object], now: datetime) -> StageError | None:
    """What a person should know of pods that have not ended and don't get on."""
    return next((error for pod in alive if (error := _trouble_of(pod, now))), None)


def _trouble_of(pod: Object, now: datetime) -> StageError | None:
    node = pod.get("spec", {}).get("nodeName", "")
    leaving = moment(pod["metadata"].get("deletionTimestamp"))
    if leaving:
        if now - leaving < LOST_AFTER:
            return None
        return StageError(Reason.NODE_LOST, f"the pod does not end: the node {node} does not answer")
    scheduled = _condition(pod, "PodScheduled", "False")
    if scheduled and scheduled.get("reason") == "Unschedulable":
        return StageError(Reason.UNSCHEDULABLE, brief(scheduled.get("message", "")))
    if _is_unheard_of(pod):
        return StageError(Reason.NODE_LOST, f"the node {node} does not answer")
    return next((error for state in _statuses(pod) if (error := _trouble_of_container(state))), None)


def _is_unheard_of(pod: Object) -> bool:
    """Whether a pod is called unready though its containers are ready, as only the controller does that
    gave up its node: a kubelet says both or neither."""
    return bool(_condition(pod, "Ready", "False") and _condition(pod, "ContainersReady"))


def _trouble_of_container(status: Object) -> StageError | None:
    waiting = status.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), str(waiting.get("message", ""))
    if reason in NO_IMAGE:
        detail = message.rpartition("ErrImagePull: ")[2]
        told = f": {brief(detail)}" if detail and not detail.startswith("Back-off") else ""
        return StageError(Reason.IMAGE_PULL, f"the image {status.get('image', '')} can't be pulled{told}")
    if reason not in NOT_CREATED or message.startswith(NOT_YET_READ):
        return None
    missing = "secret" in message.lower()
    return StageError(Reason.SECRET_MISSING if missing else Reason.ADMISSION_DENIED, brief(message))


def _condition(pod: Object, kind: str, status: str = "True") -> Object | None:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind and c["status"] == status), None)


def _statuses(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses", []))


def _states(pod: Object) -> list[Object]:
    return [status.get("state", {}) for status in _statuses(pod)]


def brief(text: str) -> str:
    """Another's words in one line, with … where they are cut."""
    text = safe(" ".join(text.split()))
    return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]}…"

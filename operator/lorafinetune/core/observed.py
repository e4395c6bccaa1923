"""Job, Pod and Event objects → what has happened to a stage.

Only what the plan needs is kept, so that a table of sentences can build any situation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import REFRESH_ANNOTATION
from lorafinetune.api.status import StageName
from lorafinetune.contract.outcome import Result, StageError, decode_message
from lorafinetune.contract.times import moment
from lorafinetune.core.pods import (
    controller_of,
    disruption_of,
    failure_of,
    failure_of_job,
    failure_without_words,
    has_ended,
    is_disrupted,
    is_leaving,
    job_of,
    newest_first,
    newest_of_each,
    terminated,
    trouble_of_pods,
    without_words,
)
from lorafinetune.core.queueing import why_held
from lorafinetune.core.refusals import trouble_of_warnings

Object = Mapping[str, Any]

OURS: Final = ("app.kubernetes.io/managed-by", "lorafinetune")
"""The label of everything that we make."""
STAGE_LABEL: Final = "lorafinetune.dev/stage"
NAME_LABEL: Final = "lorafinetune.dev/name"
INPUTS_ANNOTATION: Final = "lorafinetune.dev/inputs"
SHAPE_ANNOTATION: Final = "lorafinetune.dev/shape"
ATTEMPT_ANNOTATION: Final = "lorafinetune.dev/attempt"
CHECKPOINT_ANNOTATION: Final = "lorafinetune.dev/checkpoint"
GENERATION_ANNOTATION: Final = "lorafinetune.dev/generation"
TEMPLATE_ANNOTATION: Final = "lorafinetune.dev/template"
REMINDED_ANNOTATION: Final = "lorafinetune.dev/reminded"

NO_CAUSE: Final = (Reason.PREEMPTED, Reason.RANK_LOST)
"""Reasons of what happened to a pod from outside."""

Outcome = Result | StageError


@dataclass(frozen=True)
class ObservedJob:
    """One Job, with what its pods left behind.

    resource: name of the LoRAFineTune that it belongs to. outcome: the result or the failure, once
    ended; None for a Job that is done but whose result is lost. pods: how many of its pods still exist
    and have not ended; leaving_pods: how many of these are on their way out. trouble: what keeps one
    that has not ended from getting on. wordless: it has ended, and of its pods there is none, or one that
    has not ended or has not left the result: what is known of the pods may be older than of the Job.
    checkpoint: step of the last one that attempts before it left, as far as they told; 0: none.
    held: why the queue holds it, in the queue's words. reminded: how often it was changed for want of a pod.
    """

    name: str
    stage: StageName
    inputs: str
    shape: str
    attempt: int
    generation: int
    state: Literal["queued", "active", "complete", "failed", "leaving"]
    resource: str = ""
    template: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome | None = None
    pods: int = 0
    leaving_pods: int = 0
    refresh: str = ""
    has_ttl: bool = False
    trouble: StageError | None = None
    wordless: bool = False
    checkpoint: int = 0
    held: str = ""
    reminded: str = ""


@dataclass(frozen=True)
class Observed:
    """What exists in the cluster, by Job name.

    jobs: of the resource. others: of other LoRAFineTunes, under a name that the resource may want.
    left_behind: how many pods live on without their Job.
    """

    jobs: Mapping[str, ObservedJob] = field(default_factory=dict)
    others: Mapping[str, ObservedJob] = field(default_factory=dict)
    left_behind: Mapping[str, int] = field(default_factory=dict)

    def of(self, stage: StageName) -> tuple[ObservedJob, ...]:
        return tuple(job for job in self.jobs.values() if job.stage == stage)


def observe(
    uid: str, jobs: Iterable[Object], pods: Iterable[Object], events: Iterable[Object], now: datetime
) -> Observed:
    """Reads the Jobs that matter to the resource of that uid, their Pods, and Warning events about these and
    about what a queue made of them."""
    by_job: dict[str, list[Object]] = {}
    for pod in pods:
        if name := job_of(pod):
            by_job.setdefault(name, []).append(pod)
    told = tuple(events)
    own: dict[str, ObservedJob] = {}
    others: dict[str, ObservedJob] = {}
    for job in jobs:
        name = job["metadata"]["name"]
        uid_of_job = job["metadata"].get("uid")
        mine = [pod for pod in by_job.pop(name, []) if controller_of(pod).get("uid") == uid_of_job]
        seen = _job(job, newest_first(mine), told, now)
        (own if controller_of(job).get("uid") == uid else others)[name] = seen
    alive = {name: sum(not has_ended(pod) for pod in left) for name, left in by_job.items()}
    return Observed(own, others, {name: count for name, count in alive.items() if count})


def _job(job: Object, pods: list[Object], events: tuple[Object, ...], now: datetime) -> ObservedJob:
    metadata = job["metadata"]
    notes = metadata.get("annotations", {})
    conditions = {c["type"]: c for c in job.get("status", {}).get("conditions", []) if c["status"] == "True"}
    stage: StageName = metadata["labels"][STAGE_LABEL]
    state = _state(job, conditions)
    ends = [end for ended in terminated(pods) if (end := moment(ended.get("finishedAt")))]
    outcome = _outcome(stage, conditions, pods)
    return ObservedJob(
        name=metadata["name"],
        stage=stage,
        inputs=notes.get(INPUTS_ANNOTATION, ""),
        shape=notes.get(SHAPE_ANNOTATION, ""),
        attempt=int(notes.get(ATTEMPT_ANNOTATION, "1")),
        generation=int(notes.get(GENERATION_ANNOTATION, "0")),
        state=state,
        resource=controller_of(job).get("name", ""),
        template=notes.get(TEMPLATE_ANNOTATION, ""),
        started=moment(job.get("status", {}).get("startTime")),
        ended=max(ends, default=None) or moment(_last_transition(conditions)),
        outcome=outcome,
        pods=sum(not has_ended(pod) for pod in pods),
        leaving_pods=sum(is_leaving(pod) for pod in pods),
        refresh=notes.get(REFRESH_ANNOTATION, ""),
        has_ttl=job.get("spec", {}).get("ttlSecondsAfterFinished") is not None,
        trouble=_trouble(state, job, pods, events, now),
        wordless=_is_wordless(state, outcome, pods),
        checkpoint=int(notes.get(CHECKPOINT_ANNOTATION, "0")),
        held=why_held(metadata["name"], events) if state == "queued" else "",
        reminded=notes.get(REMINDED_ANNOTATION, ""),
    )


def _state(
    job: Object, conditions: Mapping[str, Any]
) -> Literal["queued", "active", "complete", "failed", "leaving"]:
    if job["metadata"].get("deletionTimestamp"):
        return "leaving"
    if "Complete" in conditions:
        return "complete"
    if "Failed" in conditions:
        return "failed"
    return "queued" if job.get("spec", {}).get("suspend") else "active"


def _outcome(stage: StageName, conditions: Mapping[str, Any], pods: list[Object]) -> Outcome | None:
    """The words of the newest pod that fit the Job's end: an earlier one may have been preempted. Of several
    nodes the first one tells the result."""
    newest = newest_of_each(pods)
    if "Complete" in conditions:
        said = (_words(stage, pod) for pod in (*newest, *pods))
        return next((words for words in said if isinstance(words, Result)), None)
    if "Failed" not in conditions:
        return None
    failure = _cause(stage, newest) or next((e for pod in pods if (e := _failure(stage, pod))), None)
    if failure is None or failure.reason in NO_CAUSE:
        return failure_of_job(conditions["Failed"]) or failure or failure_without_words(conditions, pods)
    return failure


def _cause(stage: StageName, newest: list[Object]) -> StageError | None:
    """Why the newest pods of a Job failed. Of several nodes one has the cause: those that lost it say so, or
    are asked to leave, as are all of a Job that has failed. Any of them may know the last checkpoint."""
    silent = without_words if len(newest) > 1 else lambda _: None
    said = [(error, pod) for pod in newest if (error := _failure(stage, pod) or silent(pod))]
    if not said:
        return None
    cause = min(said, key=lambda each: _is_farther(*each))[0]
    steps = [error.checkpoint for error, _ in said if error.checkpoint is not None]
    return StageError(cause.reason, cause.message, cause.hint, max(steps, default=None))


def _is_farther(error: StageError, pod: Object) -> int:
    """From the cause of an end, as what a pod of several says of it is."""
    if error.reason not in NO_CAUSE:
        return 0
    if error.reason is Reason.PREEMPTED:
        return 1 if is_disrupted(pod) else 3
    return 2


def _failure(stage: StageName, pod: Object) -> StageError | None:
    """A stage that was asked to stop knows not why: that it exceeds a limit, only its pod's status says."""
    words, status = _words(stage, pod), failure_of(pod)
    if not isinstance(words, StageError):
        return status
    asked_to_stop = words.reason is Reason.PREEMPTED
    return status if asked_to_stop and status and status.reason is not Reason.PREEMPTED else words


def _is_wordless(state: str, outcome: Outcome | None, pods: list[Object]) -> bool:
    if state == "failed":
        return not pods or not all(map(has_ended, pods))
    return state == "complete" and outcome is None


def _words(stage: StageName, pod: Object) -> Outcome | None:
    said = (decode_message(stage, state.get("message", "")) for state in terminated([pod]))
    return next((words for words in said if words), None)


def _trouble(
    state: str, job: Object, pods: list[Object], events: tuple[Object, ...], now: datetime
) -> StageError | None:
    """What keeps a Job from getting on. One that leaves, or that its queue holds, loses its pods anyway."""
    if state in ("complete", "failed"):
        return None
    alive = [pod for pod in pods if not has_ended(pod)]
    trouble = trouble_of_pods(alive, now) or trouble_of_warnings(job, alive, events)
    return trouble or (disruption_of(pods) if state == "active" else None)


def _last_transition(conditions: Mapping[str, Any]) -> str | None:
    ends = (
        conditions[kind].get("lastTransitionTime") for kind in ("Complete", "Failed") if kind in conditions
    )
    return next(ends, None)

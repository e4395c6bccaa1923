"""Job and Pod objects → what has happened to a stage.

Only what the plan needs is kept, so that a table of sentences can build any situation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import StageName
from lorafinetune.contract.outcome import ExitCode, Result, StageError, decode_message

STAGE_LABEL: Final = "lorafinetune.dev/stage"
NAME_LABEL: Final = "lorafinetune.dev/name"
INPUTS_ANNOTATION: Final = "lorafinetune.dev/inputs"
SHAPE_ANNOTATION: Final = "lorafinetune.dev/shape"
ATTEMPT_ANNOTATION: Final = "lorafinetune.dev/attempt"
GENERATION_ANNOTATION: Final = "lorafinetune.dev/generation"
TEMPLATE_ANNOTATION: Final = "lorafinetune.dev/template"

Outcome = Result | StageError


@dataclass(frozen=True)
class ObservedJob:
    """One Job of the resource, with what its pod left behind.

    outcome: the result or the failure, once ended; None for a Job that is done but whose result is
    lost. pods: how many of its pods still exist and have not ended.
    """

    name: str
    stage: StageName
    inputs: str
    shape: str
    attempt: int
    generation: int
    state: Literal["queued", "active", "complete", "failed", "leaving"]
    started: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome | None = None
    pods: int = 0


@dataclass(frozen=True)
class Observed:
    """Everything of one resource that exists in the cluster, by Job name."""

    jobs: Mapping[str, ObservedJob] = field(default_factory=dict)

    def of(self, stage: StageName) -> tuple[ObservedJob, ...]:
        return tuple(job for job in self.jobs.values() if job.stage == stage)


def observe(jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> Observed:
    """Reads the Jobs of one resource and their Pods."""
    by_job: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        name = pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name", "")
        by_job.setdefault(name, []).append(pod)
    observed = (_job(job, by_job.get(job["metadata"]["name"], [])) for job in jobs)
    return Observed({job.name: job for job in observed})


def _job(job: Mapping[str, Any], pods: list[Mapping[str, Any]]) -> ObservedJob:
    metadata = job["metadata"]
    notes = metadata.get("annotations", {})
    conditions = {c["type"]: c for c in job.get("status", {}).get("conditions", []) if c["status"] == "True"}
    stage: StageName = metadata["labels"][STAGE_LABEL]
    ended = [t for c in _terminated(pods) if (t := _time(c.get("finishedAt")))]
    return ObservedJob(
        name=metadata["name"],
        stage=stage,
        inputs=notes.get(INPUTS_ANNOTATION, ""),
        shape=notes.get(SHAPE_ANNOTATION, ""),
        attempt=int(notes.get(ATTEMPT_ANNOTATION, "1")),
        generation=int(notes.get(GENERATION_ANNOTATION, "0")),
        state=_state(job, conditions),
        started=_time(job.get("status", {}).get("startTime")),
        ended=max(ended, default=None) or _time(_last_transition(conditions)),
        outcome=_outcome(stage, conditions, pods),
        pods=sum(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in pods),
    )


def _state(
    job: Mapping[str, Any], conditions: Mapping[str, Any]
) -> Literal["queued", "active", "complete", "failed", "leaving"]:
    if job["metadata"].get("deletionTimestamp"):
        return "leaving"
    if "Complete" in conditions:
        return "complete"
    if "Failed" in conditions:
        return "failed"
    return "queued" if job.get("spec", {}).get("suspend") else "active"


def _outcome(
    stage: StageName, conditions: Mapping[str, Any], pods: list[Mapping[str, Any]]
) -> Outcome | None:
    terminated = _terminated(pods)
    for state in terminated:
        outcome = decode_message(stage, state.get("message", ""))
        if isinstance(outcome, StageError) or (outcome and "Complete" in conditions):
            return outcome
    return _failure_without_words(conditions, pods, terminated) if "Failed" in conditions else None


def _failure_without_words(
    conditions: Mapping[str, Any], pods: list[Mapping[str, Any]], terminated: list[Mapping[str, Any]]
) -> StageError:
    if conditions["Failed"].get("reason") == "DeadlineExceeded":
        return StageError(Reason.DEADLINE_EXCEEDED, "the attempt took longer than activeDeadlineSeconds")
    if any(state.get("reason") == "OOMKilled" for state in terminated):
        return StageError(Reason.HOST_OUT_OF_MEMORY, "the stage was killed for its use of memory")
    if any(_disrupted(pod) for pod in pods):
        return StageError(Reason.PREEMPTED, "the pod was evicted or preempted")
    code = terminated[-1].get("exitCode") if terminated else None
    if code == ExitCode.STOPPED:
        return StageError(Reason.PREEMPTED, "the stage stopped early")
    said = f"exit code {code}" if code is not None else conditions["Failed"].get("message", "no pod")
    return StageError(Reason.INTERNAL, f"the stage ended without a word: {said}")


def _disrupted(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in conditions)


def _terminated(pods: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        container["state"]["terminated"]
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses", [])
        if "terminated" in container.get("state", {})
    ]


def _last_transition(conditions: Mapping[str, Any]) -> str | None:
    ends = (
        conditions[kind].get("lastTransitionTime") for kind in ("Complete", "Failed") if kind in conditions
    )
    return next(ends, None)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

"""The one function that decides: what was observed → what is to be done, and what is to be said.

It is level-triggered and total. It walks the stages in order to the first that has no result yet; a
domain problem is a condition, never an exception.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from lorafinetune.api.reasons import Retry
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import (
    Failure,
    LoRAFineTuneStatus,
    StageName,
    StageStatus,
)
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress, Result, StageError
from lorafinetune.core.checks import first_violation
from lorafinetune.core.conditions import Situation, conditions
from lorafinetune.core.events import Event, events_between
from lorafinetune.core.jobs import Settings, job
from lorafinetune.core.observed import Observed, ObservedJob
from lorafinetune.core.results import record, rfc3339, with_progress, with_stage
from lorafinetune.core.steps import Step, shape, stage_status, step


@dataclass(frozen=True)
class Input:
    """Everything that the decision depends on. progress: of the running Job, by Job name."""

    resource: LoRAFineTune
    observed: Observed
    settings: Settings
    now: datetime
    progress: Mapping[str, Progress] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: delete, create, write the status, emit the events.

    delete: names of Jobs. check_again: look again after this time, even if nothing happens.
    """

    status: LoRAFineTuneStatus
    create: tuple[dict[str, Any], ...] = ()
    delete: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    check_again: timedelta | None = None


@dataclass(frozen=True)
class _Turn:
    """Where the walk has come to; `situation` ends it."""

    status: LoRAFineTuneStatus
    situation: Situation | None = None
    create: tuple[dict[str, Any], ...] = ()
    delete: tuple[str, ...] = ()
    check_again: timedelta | None = None
    error: StageError | None = None


def plan(given: Input) -> Plan:
    """What to do now. A finished resource of an unchanged generation is frozen."""
    resource = given.resource
    before = resource.status or LoRAFineTuneStatus()
    if resource.metadata.deletion_timestamp or is_finished(resource):
        return Plan(before)
    if error := first_violation(resource, given.settings):
        turn = _Turn(before, Situation("Failed", error.reason, error.message), error=error)
        return _conclude(given, replace(turn, delete=_unfinished(given)))
    obsolete = tuple(_obsolete(given))
    turn = _walk(given, _Turn(_fresh(before, resource), delete=obsolete))
    return _conclude(given, turn)


def is_finished(resource: LoRAFineTune) -> bool:
    """Whether the resource is Complete or Failed for the generation that it has now."""
    status = resource.status
    if status is None or status.observed_generation != resource.metadata.generation:
        return False
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in status.conditions)


def _fresh(status: LoRAFineTuneStatus, resource: LoRAFineTune) -> LoRAFineTuneStatus:
    """The status to start from: progress is observed anew, and an edit gives failed stages another chance."""
    status = status.model_copy(update={"progress": None, "eta": None})
    if status.observed_generation == resource.metadata.generation:
        return status
    stages = tuple(
        s.model_copy(update={"attempts": 0, "state": "Pending", "message": None})
        if s.state == "Failed"
        else s
        for s in (stage_status(status, name) for name in STAGES)
    )
    return status.model_copy(update={"stages": stages})


def _obsolete(given: Input) -> Iterator[str]:
    """Jobs that work for a spec that is gone."""
    for observed in given.observed.jobs.values():
        if observed.state != "leaving" and observed.shape != shape(observed.stage, given.resource):
            yield observed.name


def _unfinished(given: Input) -> tuple[str, ...]:
    return tuple(j.name for j in given.observed.jobs.values() if j.state in ("queued", "active"))


def _walk(given: Input, turn: _Turn) -> _Turn:
    for stage in STAGES:
        turn = _visit(given, turn, stage)
        if turn.situation:
            return turn
    return replace(turn, situation=Situation("Complete", "Complete", "all stages are complete"))


def _visit(given: Input, turn: _Turn, stage: StageName) -> _Turn:
    current = step(stage, given.resource, turn.status)
    recorded = stage_status(turn.status, stage)
    if recorded.state == "Complete" and recorded.inputs == current.inputs:
        return turn
    if recorded.inputs != current.inputs:
        key = recorded.key if stage == "train" else None
        recorded = StageStatus(name=stage, inputs=current.inputs, key=key)
    turn = replace(turn, status=with_stage(turn.status, recorded))
    if others := [j for j in given.observed.of(stage) if j.name != current.job]:
        return _stop(turn, stage, others, "a Job of an earlier spec is leaving")
    return _follow(given, turn, current, recorded, given.observed.jobs.get(current.job))


def _follow(
    given: Input, turn: _Turn, current: Step, recorded: StageStatus, observed: ObservedJob | None
) -> _Turn:
    """What the Job of the current step says, or that there is none yet."""
    stage = current.stage
    if (progress := given.progress.get(current.job)) and (observed is None or observed.outcome is None):
        moved = with_progress(turn.status, given.resource, recorded, progress, given.now)
        turn, recorded = replace(turn, status=moved), stage_status(moved, stage)
    if observed is None:
        return _create(given, turn, current, recorded)
    if observed.state == "leaving" or observed.name in turn.delete:
        return _stop(turn, stage, [observed], "the Job is leaving")
    if observed.state in ("queued", "active"):
        if given.resource.spec.suspend:
            return _stop(turn, stage, [observed], "stopping after a checkpoint")
        return _run(given, turn, recorded, observed)
    if isinstance(observed.outcome, Result):
        status = record(turn.status, stage, current.inputs, observed.outcome, observed.ended or given.now)
        return replace(turn, status=status)
    if observed.outcome is None:
        return _lost(given, turn, observed)
    return _failed(given, turn, recorded, observed, observed.outcome)


def _create(given: Input, turn: _Turn, current: Step, recorded: StageStatus) -> _Turn:
    stage = current.stage
    if given.resource.spec.suspend:
        return replace(turn, situation=Situation("Suspended", "Suspended", "spec.suspend is set", stage))
    started = recorded.model_copy(
        update={
            "state": "Running",
            "job": current.job,
            "start_time": recorded.start_time or rfc3339(given.now),
            "progress": None,
            "message": None,
        }
    )
    created = job(current, given.resource, recorded.attempts + 1, given.settings)
    return replace(
        turn,
        status=with_stage(turn.status, started),
        create=(created,),
        situation=Situation("Running", stage.capitalize(), f"{stage} begins", stage),
    )


def _run(given: Input, turn: _Turn, recorded: StageStatus, observed: ObservedJob) -> _Turn:
    stage = observed.stage
    if observed.state == "queued":
        waiting = recorded.model_copy(update={"state": "Waiting", "job": observed.name})
        situation = Situation("Waiting", "Queued", "the training waits in its queue", stage)
        return replace(turn, status=with_stage(turn.status, waiting), situation=situation)
    running = recorded.model_copy(update={"state": "Running", "job": observed.name})
    situation = Situation("Running", stage.capitalize(), f"{stage} is running", stage)
    return replace(turn, status=with_stage(turn.status, running), situation=situation)


def _stop(turn: _Turn, stage: StageName, jobs: list[ObservedJob], message: str) -> _Turn:
    """Asks Jobs to leave, and waits until nothing of them is left."""
    going = tuple(j.name for j in jobs if j.state != "leaving" and j.name not in turn.delete)
    stopping = stage_status(turn.status, stage).model_copy(update={"state": "Stopping", "message": message})
    return replace(
        turn,
        status=with_stage(turn.status, stopping),
        delete=turn.delete + going,
        situation=Situation("Stopping", "Stopping", message, stage),
    )


def _lost(given: Input, turn: _Turn, observed: ObservedJob) -> _Turn:
    """A Job that is done but whose result is gone. A lost training is found again by `prepare`."""
    again: StageName = "prepare" if observed.stage == "train" else observed.stage
    jobs = [observed, *(job for job in given.observed.of(again) if job is not observed)]
    turn = replace(turn, status=with_stage(turn.status, StageStatus(name=again)))
    return _stop(turn, again, jobs, f"the result was lost; {again} runs again to find it")


def _failed(
    given: Input, turn: _Turn, recorded: StageStatus, observed: ObservedJob, error: StageError
) -> _Turn:
    retry = error.reason.facts.retry
    if retry is Retry.FREE:
        return _stop(turn, observed.stage, [observed], error.message)
    if observed.generation != given.resource.metadata.generation:
        return _stop(turn, observed.stage, [observed], "tried again after an edit")
    attempts = max(recorded.attempts, observed.attempt)
    counted = recorded.model_copy(
        update={"attempts": attempts, "job": observed.name, "message": error.message}
    )
    exhausted = retry is not Retry.WAIT and attempts > given.resource.spec.max_retries
    if retry is Retry.NEVER or exhausted:
        failed = counted.model_copy(update={"state": "Failed"})
        situation = Situation("Failed", error.reason, error.message, observed.stage)
        return replace(turn, status=with_stage(turn.status, failed), situation=situation, error=error)
    return _try_again(given, turn, counted, observed, error)


def _try_again(
    given: Input, turn: _Turn, counted: StageStatus, observed: ObservedJob, error: StageError
) -> _Turn:
    pause = min(
        given.settings.first_retry_after * 2 ** min(counted.attempts - 1, 16),
        given.settings.longest_retry_after,
    )
    left = (observed.ended or given.now) + pause - given.now
    if left <= timedelta(0):
        turn = replace(turn, status=with_stage(turn.status, counted))
        return _stop(turn, observed.stage, [observed], error.message)
    waiting = counted.model_copy(update={"state": "Waiting"})
    return replace(
        turn,
        status=with_stage(turn.status, waiting),
        situation=Situation("Waiting", error.reason, error.message, observed.stage),
        check_again=left,
        error=error,
    )


def _conclude(given: Input, turn: _Turn) -> Plan:
    """The status as a whole, and what changed in it as events."""
    before = given.resource.status or LoRAFineTuneStatus()
    generation = given.resource.metadata.generation
    situation = turn.situation or Situation("Running", "Running", "")
    status = turn.status.model_copy(
        update={
            "observed_generation": generation,
            "stage": situation.stage.capitalize()
            if situation.stage and situation.kind not in ("Failed", "Suspended")
            else situation.kind,
            "progress": "100%" if situation.kind == "Complete" else turn.status.progress,
            "conditions": conditions(situation, before, generation, given.now),
            "failure": _failure(turn.error, situation.stage),
        }
    )
    return Plan(status, turn.create, turn.delete, events_between(before, status, situation), turn.check_again)


def _stage_column(situation: Situation) -> str:
    moving = situation.stage and situation.kind not in ("Failed", "Suspended")
    return situation.stage.capitalize() if situation.stage and moving else situation.kind


def _failure(error: StageError | None, stage: StageName | None) -> Failure | None:
    if error is None:
        return None
    return Failure(stage=stage, reason=error.reason, message=error.message[:4096], hint=error.hint[:4096])


__all__ = ["Input", "Plan", "is_finished", "plan"]

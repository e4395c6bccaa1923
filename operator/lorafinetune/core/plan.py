"""The one function that decides: what was observed → what is to be done, and what is to be said.

It is level-triggered and total. It walks the stages in order to the first that has no result yet; a
domain problem is a condition, never an exception.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import Failure, LoRAFineTuneStatus, StageName, StageStatus, TrainingStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.checks import first_violation
from lorafinetune.core.conditions import Situation, conditions
from lorafinetune.core.events import Event, events_between, floating_revision
from lorafinetune.core.following import follow
from lorafinetune.core.gate import judge
from lorafinetune.core.results import without_outputs
from lorafinetune.core.steps import has_result, refresh_of, shape, stage_status, step
from lorafinetune.core.turn import Input, Turn


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: delete, create, write the status, patch, emit the events.

    delete: names of Jobs. patch: merge patches, by Job name. check_again: look again after this time,
    even if nothing happens.
    """

    status: LoRAFineTuneStatus
    create: tuple[dict[str, Any], ...] = ()
    delete: tuple[str, ...] = ()
    patch: tuple[tuple[str, dict[str, Any]], ...] = ()
    events: tuple[Event, ...] = ()
    check_again: timedelta | None = None

    @property
    def wanted(self) -> frozenset[str]:
        """Names of the Jobs to create. Of one that was not watched, an earlier pod may still be there."""
        return frozenset(job["metadata"]["name"] for job in self.create)


def plan(given: Input) -> Plan:
    """What to do now. A finished resource of an unchanged generation is frozen."""
    resource = given.resource
    before = resource.status or LoRAFineTuneStatus()
    if resource.metadata.deletion_timestamp:
        return Plan(before)
    if is_finished(resource):
        return Plan(before, patch=tuple(_ttls(given)))
    if error := first_violation(resource, given.settings):
        turn = Turn(before, Situation("Failed", error.reason, error.message), error=error)
        return _conclude(given, replace(turn, delete=_unfinished(given)))
    obsolete = tuple(_obsolete(given))
    turn = _walk(given, Turn(_fresh(before, resource), delete=obsolete))
    return _conclude(given, _settled(given, turn))


def _settled(given: Input, turn: Turn) -> Turn:
    """An end leaves no Job running, and nobody is told of a suspension while a Job is there that has not
    ended, or that is being deleted."""
    kind = turn.situation.kind if turn.situation else "Running"
    if kind in ("Complete", "Failed"):
        return replace(turn, delete=tuple(dict.fromkeys(turn.delete + _unfinished(given))))
    moving = ("queued", "active", "leaving")
    there = [j for j in given.observed.jobs.values() if j.state in moving or j.name in turn.delete]
    if kind == "Suspended" and there:
        return turn.suspend(there[0].stage, there)
    return turn


def is_finished(resource: LoRAFineTune) -> bool:
    """Whether the resource is Complete or Failed for the generation and refresh that it has now."""
    status = resource.status
    if status is None or _is_edited(status, resource):
        return False
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in status.conditions)


def _is_edited(status: LoRAFineTuneStatus, resource: LoRAFineTune) -> bool:
    observed = (status.observed_generation, status.observed_refresh or "")
    return observed != (resource.metadata.generation, refresh_of(resource))


def _ttls(given: Input) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ended Jobs may go once the status holds what they said."""
    seconds = given.resource.spec.ttl_seconds_after_finished
    if seconds is None:
        return
    for observed in given.observed.jobs.values():
        if observed.state in ("complete", "failed") and not observed.has_ttl:
            yield observed.name, {"spec": {"ttlSecondsAfterFinished": seconds}}


def _fresh(status: LoRAFineTuneStatus, resource: LoRAFineTune) -> LoRAFineTuneStatus:
    """The status to start from: progress is observed anew, and an edit gives failed stages another chance."""
    status = status.model_copy(update={"progress": None, "eta": None})
    if not _is_edited(status, resource):
        return status
    stages = tuple(
        s.model_copy(update={"attempts": 0, "state": "Pending", "message": None})
        if s.state == "Failed"
        else s
        for s in (stage_status(status, name) for name in STAGES)
    )
    return status.model_copy(update={"stages": stages})


def _obsolete(given: Input) -> Iterator[str]:
    """Jobs that work for a spec that is gone. A new operator, which may see more in a spec, edits nothing."""
    for observed in given.observed.jobs.values():
        if observed.state == "leaving" or observed.generation == given.resource.metadata.generation:
            continue
        if observed.shape != shape(observed.stage, given.resource):
            yield observed.name


def _unfinished(given: Input) -> tuple[str, ...]:
    return tuple(j.name for j in given.observed.jobs.values() if j.state in ("queued", "active"))


def _walk(given: Input, turn: Turn) -> Turn:
    for stage in STAGES:
        turn = _at_gate(given, turn) if stage == "export" else turn
        turn = turn if turn.situation else _visit(given, turn, stage)
        if turn.situation:
            return turn
    ending = stage_status(turn.status, "train").message
    message = "all stages are complete" + (f"; the training {ending}" if ending else "")
    return replace(turn, situation=Situation("Complete", "Complete", message))


def _at_gate(given: Input, turn: Turn) -> Turn:
    """A model that does not pass is not exported. One that was, before there was the gate, stays."""
    evaluation = given.resource.spec.training.evaluation
    if evaluation is None or evaluation.gate is None:
        return turn
    verdict = judge(evaluation.gate, turn.status.training or TrainingStatus())
    turn = replace(turn, verdict=verdict)
    if verdict.error is None:
        return turn
    if not has_result(turn.status, step("export", given.resource, turn.status)):
        turn = replace(turn, status=without_outputs(turn.status, "export"))
        turn = turn.with_stage(StageStatus(name="export"))
    situation = Situation("Failed", verdict.error.reason, verdict.message, "export")
    return replace(turn, situation=situation, error=verdict.error)


def _visit(given: Input, turn: Turn, stage: StageName) -> Turn:
    current = step(stage, given.resource, turn.status)
    if has_result(turn.status, current):
        return turn
    recorded = stage_status(turn.status, stage)
    others = [j for j in given.observed.of(stage) if j.name != current.job]
    if any(given.observed.left_behind.get(name) for name in (recorded.job or "", current.job)):
        return turn.stop(stage, others, "a pod of an earlier Job is still there")
    if recorded.inputs != current.inputs:
        key = recorded.key if stage == "train" else None
        recorded = StageStatus(name=stage, inputs=current.inputs, key=key)
        turn = replace(turn, status=without_outputs(turn.status, stage))
    turn = turn.with_stage(recorded)
    if others:
        return turn.stop(stage, others, "a Job of an earlier spec is leaving")
    return follow(given, turn, current)


def _conclude(given: Input, turn: Turn) -> Plan:
    """The status as a whole, and what changed in it as events."""
    before = given.resource.status or LoRAFineTuneStatus()
    generation = given.resource.metadata.generation
    situation = turn.situation or Situation("Running", "Running", "")
    status = turn.status.model_copy(
        update={
            "observed_generation": generation,
            "observed_refresh": refresh_of(given.resource) or None,
            "stage": _stage_column(situation),
            "progress": "100%" if situation.kind == "Complete" else turn.status.progress,
            "conditions": conditions(situation, turn.status, before, generation, given.now, turn.verdict),
            "failure": _failure(turn.error, situation.stage),
        }
    )
    floating = floating_revision(given.resource.spec.model, before, status)
    events = (*events_between(before, status, situation), *floating)
    return Plan(status, turn.create, turn.delete, (), events, turn.check_again)


def _stage_column(situation: Situation) -> str:
    moving = situation.stage and situation.kind not in ("Failed", "Suspended")
    return situation.stage.capitalize() if situation.stage and moving else situation.kind


def _failure(error: StageError | None, stage: StageName | None) -> Failure | None:
    if error is None:
        return None
    return Failure(stage=stage, reason=error.reason, message=error.message[:4096], hint=error.hint[:4096])


__all__ = ["Input", "Plan", "is_finished", "plan"]

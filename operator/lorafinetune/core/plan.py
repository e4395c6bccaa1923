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
from lorafinetune.core.gate import judge
from lorafinetune.core.results import with_handover, without_outputs
from lorafinetune.core.steps import has_result, refresh_of, shape, stage_status, step
from lorafinetune.core.transitions import follow
from lorafinetune.core.walk import Input, Walk


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: delete, create, write the status, patch, emit the events.

    delete: names of Jobs. patch: merge patches, by Job name. check_again: reconcile again after this time,
    even if nothing happens.
    """

    status: LoRAFineTuneStatus
    create: tuple[dict[str, Any], ...] = ()
    delete: tuple[str, ...] = ()
    patch: tuple[tuple[str, dict[str, Any]], ...] = ()
    events: tuple[Event, ...] = ()
    check_again: timedelta | None = None

    @property
    def job_names(self) -> frozenset[str]:
        """Names of the Jobs to create. Of one that was not watched, an earlier pod may still be there."""
        return frozenset(job["metadata"]["name"] for job in self.create)


def plan(inputs: Input) -> Plan:
    """What to do now. A finished resource of an unchanged generation is frozen."""
    resource = inputs.resource
    before = resource.status or LoRAFineTuneStatus()
    if resource.metadata.deletion_timestamp:
        return Plan(before)
    if is_finished(resource):
        return Plan(before, patch=tuple(_ttls(inputs)))
    if error := first_violation(resource, inputs.settings):
        walk = Walk(before, Situation("Failed", error.reason, error.message), error=error)
        return _conclude(inputs, replace(walk, delete=_unfinished(inputs)))
    obsolete = tuple(_obsolete(inputs))
    walk = _walk(inputs, Walk(_fresh(before, resource), delete=obsolete))
    return _conclude(inputs, _settled(inputs, walk))


def _settled(inputs: Input, walk: Walk) -> Walk:
    """An end leaves no Job running, and nobody is told of a suspension while a Job is there that has not
    ended, or that is being deleted."""
    kind = walk.situation.kind if walk.situation else "Running"
    if kind in ("Complete", "Failed"):
        return replace(walk, delete=tuple(dict.fromkeys(walk.delete + _unfinished(inputs))))
    moving = ("queued", "active", "leaving")
    there = [j for j in inputs.observed.jobs.values() if j.state in moving or j.name in walk.delete]
    if kind == "Suspended" and there:
        return walk.suspend(there[0].stage, there)
    return walk


def is_finished(resource: LoRAFineTune) -> bool:
    """Whether the resource is Complete or Failed for the generation and refresh that it has now."""
    status = resource.status
    if status is None or _is_edited(status, resource):
        return False
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in status.conditions)


def _is_edited(status: LoRAFineTuneStatus, resource: LoRAFineTune) -> bool:
    observed = (status.observed_generation, status.observed_refresh or "")
    return observed != (resource.metadata.generation, refresh_of(resource))


def _ttls(inputs: Input) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ended Jobs may go once the status holds what they said."""
    seconds = inputs.resource.spec.ttl_seconds_after_finished
    if seconds is None:
        return
    for observed in inputs.observed.jobs.values():
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


def _obsolete(inputs: Input) -> Iterator[str]:
    """Jobs that work for a spec that is gone. A new operator, which may see more in a spec, edits nothing."""
    for observed in inputs.observed.jobs.values():
        if observed.state == "leaving" or observed.generation == inputs.resource.metadata.generation:
            continue
        if observed.shape != shape(observed.stage, inputs.resource):
            yield observed.name


def _unfinished(inputs: Input) -> tuple[str, ...]:
    return tuple(j.name for j in inputs.observed.jobs.values() if j.state in ("queued", "active"))


def _walk(inputs: Input, walk: Walk) -> Walk:
    for stage in STAGES:
        walk = _at_gate(inputs, walk) if stage == "export" else walk
        walk = walk if walk.situation else _visit(inputs, walk, stage)
        if walk.situation:
            return walk
    ending = stage_status(walk.status, "train").message
    message = "all stages are complete" + (f"; the training {ending}" if ending else "")
    return replace(walk, situation=Situation("Complete", "Complete", message))


def _at_gate(inputs: Input, walk: Walk) -> Walk:
    """A model that does not pass is not exported. One that was, before there was the gate, stays."""
    evaluation = inputs.resource.spec.training.evaluation
    if evaluation is None or evaluation.gate is None:
        return walk
    verdict = judge(evaluation.gate, walk.status.training or TrainingStatus())
    walk = replace(walk, verdict=verdict)
    if verdict.error is None:
        return walk
    if not has_result(walk.status, step("export", inputs.resource, walk.status)):
        walk = replace(walk, status=without_outputs(walk.status, "export"))
        walk = walk.with_stage(StageStatus(name="export"))
    situation = Situation("Failed", verdict.error.reason, verdict.message, "export")
    return replace(walk, situation=situation, error=verdict.error)


def _visit(inputs: Input, walk: Walk, stage: StageName) -> Walk:
    current = step(stage, inputs.resource, walk.status)
    if has_result(walk.status, current):
        return walk
    recorded = stage_status(walk.status, stage)
    others = [j for j in inputs.observed.of(stage) if j.name != current.job]
    if any(inputs.observed.left_behind.get(name) for name in (recorded.job or "", current.job)):
        return walk.stop(stage, others, "a pod of an earlier Job is still there")
    if recorded.inputs != current.inputs:
        key = recorded.key if stage == "train" else None
        recorded = StageStatus(name=stage, inputs=current.inputs, key=key)
        walk = replace(walk, status=without_outputs(walk.status, stage))
    walk = walk.with_stage(recorded)
    if others:
        return walk.stop(stage, others, "a Job of an earlier spec is leaving")
    return follow(inputs, walk, current)


def _conclude(inputs: Input, walk: Walk) -> Plan:
    """The status as a whole, and what changed in it as events."""
    before = inputs.resource.status or LoRAFineTuneStatus()
    generation = inputs.resource.metadata.generation
    situation = walk.situation or Situation("Running", "Running", "")
    status = walk.status.model_copy(
        update={
            "observed_generation": generation,
            "observed_refresh": refresh_of(inputs.resource) or None,
            "stage": _stage_column(situation),
            "progress": "100%" if situation.kind == "Complete" else walk.status.progress,
            "conditions": conditions(situation, walk.status, before, generation, inputs.now, walk.verdict),
            "failure": _failure(walk.error, situation.stage),
        }
    )
    if situation.kind == "Complete" and inputs.resource.spec.export.config_map and not inputs.settings.local:
        status = with_handover(status)
    floating = floating_revision(inputs.resource.spec.model, before, status)
    events = (*events_between(before, status, situation), *floating)
    return Plan(status, walk.create, walk.delete, walk.patch, events, walk.check_again)


def _stage_column(situation: Situation) -> str:
    moving = situation.stage and situation.kind not in ("Failed", "Suspended")
    return situation.stage.capitalize() if situation.stage and moving else situation.kind


def _failure(error: StageError | None, stage: StageName | None) -> Failure | None:
    if error is None:
        return None
    return Failure(stage=stage, reason=error.reason, message=error.message[:4096], hint=error.hint[:4096])


__all__ = ["Input", "Plan", "is_finished", "plan"]

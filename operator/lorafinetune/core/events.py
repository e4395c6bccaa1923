"""What a person would want to know, as Events: the difference between two statuses.

They come from the difference alone, so nothing is said twice.
"""

from dataclasses import dataclass
from typing import Literal

from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import HUBS, BaseModelSource
from lorafinetune.api.status import Failure, LoRAFineTuneStatus, StageStatus
from lorafinetune.core.conditions import IN_QUEUE, QUEUED, Situation
from lorafinetune.core.steps import stage_status


@dataclass(frozen=True)
class Event:
    """One Event on the resource."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def events_between(
    before: LoRAFineTuneStatus, after: LoRAFineTuneStatus, situation: Situation
) -> tuple[Event, ...]:
    """The events of one step from one status to the next."""
    changed = [
        event
        for stage in after.stages
        if (event := _of_stage(stage_status(before, stage.name), stage, after.failure))
    ]
    return (*changed, *_of_run(before, after, situation))


def floating_revision(
    model: BaseModelSource, before: LoRAFineTuneStatus, after: LoRAFineTuneStatus
) -> tuple[Event, ...]:
    """Says which commit a name was resolved to that can mean another one tomorrow, or in another cluster."""
    found = after.model
    if found is None or found == before.model or not model.source.startswith(HUBS):
        return ()
    if model.revision and found.revision.startswith(model.revision):
        return ()
    named = model.revision or "the default branch"
    message = f"spec.model.revision: {named} is commit {found.revision} now, which is kept; name it to pin it"
    return (Event("Warning", "FloatingRevision", message),)


def _of_stage(before: StageStatus, after: StageStatus, failure: Failure | None) -> Event | None:
    if after.state == before.state and after.inputs == before.inputs and after.attempts == before.attempts:
        return None
    match after.state:
        case "Running":
            return Event("Normal", "StageStarted", f"{after.name} began as Job {after.job}")
        case "Complete":
            how = "was found in the store" if after.cache_hit else "is complete"
            ending = f": {after.message}" if after.name == "train" and after.message else ""
            return Event("Normal", "StageComplete", f"{after.name} {how}{ending}")
        case "Waiting" | "Stopping" if failure and after.attempts > before.attempts:
            message = f"{after.name} failed and is tried again: {failure.reason}: {failure.message}"
            return Event("Warning", "StageRetried", message)
        case _:
            return None


def _of_run(before: LoRAFineTuneStatus, after: LoRAFineTuneStatus, situation: Situation) -> tuple[Event, ...]:
    if situation.kind == "Waiting" or (situation.kind == "Stopping" and after.failure):
        return _of_waiting(before, after, situation)
    if before.stage == after.stage and before.observed_generation == after.observed_generation:
        return ()
    match situation.kind:
        case "Failed":
            return (Event("Warning", situation.reason, situation.message),)
        case "Complete" | "Suspended":
            return (Event("Normal", situation.kind, situation.message),)
        case _:
            return ()


def _of_waiting(
    before: LoRAFineTuneStatus, after: LoRAFineTuneStatus, situation: Situation
) -> tuple[Event, ...]:
    """Why a stage does not get on, where that has not been said yet."""
    retried = any(s.attempts > stage_status(before, s.name).attempts for s in after.stages)
    said = {condition.reason: condition.message for condition in before.conditions}
    if retried or _is_said(situation, said.get(situation.reason)):
        return ()
    return (Event("Warning" if after.failure else "Normal", situation.reason, situation.message),)


def _is_said(situation: Situation, before: str | None) -> bool:
    """Each preemption is told, and the first words of a queue: those of another reason may change while it
    stays. before: what was said of this reason last."""
    if situation.reason == Reason.PREEMPTED or (situation.reason == QUEUED and before == IN_QUEUE):
        return before == situation.message
    return before is not None

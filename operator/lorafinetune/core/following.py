"""What the Job of a step says, and what follows from it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from lorafinetune.api.reasons import Reason, Retry
from lorafinetune.api.status import StageName, StageStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Result, StageError
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.conditions import QUEUED, Situation
from lorafinetune.core.jobs import job
from lorafinetune.core.observed import TEMPLATE_ANNOTATION, ObservedJob
from lorafinetune.core.refusals import refusal
from lorafinetune.core.results import record, with_progress
from lorafinetune.core.steps import Step, arguments_of, refresh_of, stage_status
from lorafinetune.core.turn import Input, Turn

MAX_ATTEMPTS: Final = 1000
"""More are not counted: a run may wait for years."""
LOOK_AGAIN: Final = timedelta(seconds=30)
"""When to look again at things that no watch reports."""


def follow(given: Input, turn: Turn, current: Step) -> Turn:
    """The turn after the Job of the current step was looked at; without one, it is created."""
    observed = given.observed.jobs.get(current.job)
    turn = _with_progress(given, turn, current, observed)
    if observed is None:
        return _without_job(given, turn, current)
    if given.resource.spec.suspend and observed.state in ("queued", "active", "leaving"):
        return turn.suspend(current.stage, [observed])
    if observed.state == "leaving" or observed.name in turn.delete:
        return turn.stop(current.stage, [observed], "the Job is leaving")
    if observed.state in ("queued", "active"):
        return _unfinished(given, turn, current, observed)
    turn = turn.with_stage(_begun(given, turn, observed))
    if isinstance(observed.outcome, Result):
        status = record(
            turn.status, current.stage, current.inputs, observed.outcome, observed.ended or given.now
        )
        return replace(turn, status=status)
    if observed.outcome is None:
        return _lost(given, turn, observed)
    return _failed(given, turn, observed, observed.outcome)


def _with_progress(given: Input, turn: Turn, current: Step, observed: ObservedJob | None) -> Turn:
    progress = given.progress.get(current.job)
    if progress is None or (observed and observed.outcome):
        return turn
    recorded = stage_status(turn.status, current.stage)
    return replace(turn, status=with_progress(turn.status, given.resource, recorded, progress, given.now))


def _begun(given: Input, turn: Turn, observed: ObservedJob) -> StageStatus:
    """The stage with its Job and its beginning, which were not written where the write failed that followed
    the creation."""
    recorded = stage_status(turn.status, observed.stage)
    started = recorded.start_time or rfc3339(observed.started or given.now)
    return recorded.model_copy(update={"job": observed.name, "start_time": started})


def _without_job(given: Input, turn: Turn, current: Step) -> Turn:
    stage, name = current.stage, current.job
    if given.resource.spec.suspend:
        return replace(turn, situation=Situation("Suspended", "Suspended", "spec.suspend is set", stage))
    if other := given.observed.others.get(name):
        return _same_name(given, turn, stage, other)
    if name in given.taken:
        taken = f"a Job {name} that is not ours exists in the namespace {given.resource.metadata.namespace}"
        return turn.wait(stage, StageError(Reason.NAME_TAKEN, taken), LOOK_AGAIN)
    if name in given.refused:
        return turn.wait(stage, refusal(given.refused[name]), LOOK_AGAIN)
    return _create(given, turn, current)


def _create(given: Input, turn: Turn, current: Step) -> Turn:
    stage = current.stage
    recorded = stage_status(turn.status, stage)
    started = recorded.model_copy(
        update={
            "state": "Running",
            "job": current.job,
            "start_time": recorded.start_time or rfc3339(given.now),
            "progress": None,
            "message": None,
        }
    )
    arguments = arguments_of(stage, given.resource, turn.status)
    checkpoint = max(recorded.checkpoint_step or 0, _told_step(turn, stage))
    created = job(current, arguments, given.resource, recorded.attempts + 1, given.settings, checkpoint)
    return replace(
        turn.with_stage(started),
        create=(created,),
        situation=_running(stage),
    )


def _running(stage: StageName) -> Situation:
    """One wording from the creation of the Job to its end, so that its start alone costs no write."""
    return Situation("Running", stage.capitalize(), f"{stage} is running", stage)


def _same_name(given: Input, turn: Turn, stage: StageName, other: ObservedJob) -> Turn:
    """Another resource's Job has the name. A training of the same key runs once: the other's result is
    found by `prepare`; a failed one makes room, once its own resource has had time to try again."""
    if other.state in ("leaving", "queued", "active") or stage != "train":
        return _wait_for_other(turn, stage, other)
    ended = other.ended or given.now
    prepared = stage_status(turn.status, "prepare").completion_time
    if other.state == "complete" and (prepared is None or prepared <= rfc3339(ended)):
        blank = StageStatus(name="prepare")
        old = given.observed.of("prepare")
        message = f"the training ended for {other.resource}; prepare runs again to find it"
        return turn.with_stage(blank).stop("prepare", old, message)
    if given.now - ended < given.settings.longest_retry_after:
        return replace(_wait_for_other(turn, stage, other), check_again=LOOK_AGAIN)
    return turn.stop(stage, [other], f"the ended training of {other.resource} makes room")


def _wait_for_other(turn: Turn, stage: StageName, other: ObservedJob) -> Turn:
    does = "trains" if stage == "train" else f"runs {stage} for"
    message = f"{other.resource} {does} the same; its result will be used"
    waiting = stage_status(turn.status, stage).model_copy(update={"state": "Waiting", "message": message})
    situation = Situation("Waiting", "WaitingForSameKey", message, stage)
    return replace(turn.with_stage(waiting), situation=situation)


def _unfinished(given: Input, turn: Turn, current: Step, observed: ObservedJob) -> Turn:
    """A Job that waits or runs. An edit reaches a queued one at once, and a running one's next attempt."""
    stage = observed.stage
    is_edited = _is_edited(given, turn, current, observed)
    if is_edited and (observed.state == "queued" or observed.trouble):
        return turn.stop(stage, [observed], "the Job is made anew after an edit")
    if _has_no_image(observed) and _would_differ(given, turn, current, observed):
        return turn.stop(stage, [observed], "the Job is made anew with another image")
    recorded = _begun(given, turn, observed)
    again = LOOK_AGAIN if observed.leaving_pods else None
    if observed.trouble:
        return turn.with_stage(recorded).wait(stage, observed.trouble, again)
    turn = replace(turn, check_again=again)
    if observed.state == "queued":
        waiting = recorded.model_copy(update={"state": "Waiting"})
        why = f": {observed.held}" if observed.held else ""
        situation = Situation("Waiting", QUEUED, f"the training waits in its queue{why}", stage)
        return replace(turn.with_stage(waiting), situation=situation)
    running = recorded.model_copy(update={"state": "Running"})
    situation = _running(stage)
    if is_edited:
        message = f"{stage} is running; the edit takes effect with its next attempt"
        situation = Situation("Running", "AppliesAtNextAttempt", message, stage)
    return replace(turn.with_stage(running), situation=situation)


def _is_edited(given: Input, turn: Turn, current: Step, observed: ObservedJob) -> bool:
    """Whether a Job made now would differ, because the spec was edited. A new operator edits nothing."""
    is_older = observed.generation != given.resource.metadata.generation
    return is_older and _would_differ(given, turn, current, observed)


def _has_no_image(observed: ObservedJob) -> bool:
    """Whether its pod can't start for want of an image, which another setting of the operator may mend."""
    return observed.trouble is not None and observed.trouble.reason is Reason.IMAGE_PULL


def _would_differ(given: Input, turn: Turn, current: Step, observed: ObservedJob) -> bool:
    """Whether a Job made now would not be the one that is there."""
    arguments = arguments_of(current.stage, given.resource, turn.status)
    wanted = job(current, arguments, given.resource, observed.attempt, given.settings)
    return bool(wanted["metadata"]["annotations"][TEMPLATE_ANNOTATION] != observed.template)


def _lost(given: Input, turn: Turn, observed: ObservedJob) -> Turn:
    """A Job that is done but whose result is gone. A lost training is found again by `prepare`."""
    again: StageName = "prepare" if observed.stage == "train" else observed.stage
    jobs = [observed, *(job for job in given.observed.of(again) if job is not observed)]
    message = f"the result was lost; {again} runs again to find it"
    return turn.with_stage(StageStatus(name=again)).stop(again, jobs, message)


def _failed(given: Input, turn: Turn, observed: ObservedJob, error: StageError) -> Turn:
    retry = error.reason.facts.retry
    if retry is Retry.FREE:
        return turn.stop(observed.stage, [observed], error.message, error)
    made_for = (observed.generation, observed.refresh)
    if made_for != (given.resource.metadata.generation, refresh_of(given.resource)):
        return turn.stop(observed.stage, [observed], "tried again after an edit")
    furthest = max(error.checkpoint or 0, _told_step(turn, observed.stage))
    counted = _counted(stage_status(turn.status, observed.stage), observed, error, furthest)
    against = 0 if furthest > observed.checkpoint else counted.attempts
    if _is_final(given, retry, against):
        failed = counted.model_copy(update={"state": "Failed"})
        situation = Situation("Failed", error.reason, error.message, observed.stage)
        return replace(turn.with_stage(failed), situation=situation, error=error)
    return _try_again(given, turn.with_stage(counted), observed, error, counted.attempts)


def _counted(recorded: StageStatus, observed: ObservedJob, error: StageError, furthest: int) -> StageStatus:
    """The stage after a failed attempt, however often that is looked at. furthest: step of the last
    checkpoint that it left. One that came further than all before it is not counted, or a long training would
    end by what befalls any machine in weeks."""
    attempts = max(recorded.attempts, observed.attempt - (furthest > observed.checkpoint))
    checkpoint = max(recorded.checkpoint_step or 0, furthest)
    return recorded.model_copy(
        update={
            "attempts": min(attempts, MAX_ATTEMPTS),
            "checkpoint_step": checkpoint or None,
            "job": observed.name,
            "message": error.message,
        }
    )


def _told_step(turn: Turn, stage: StageName) -> int:
    """Step of the newest checkpoint of which a training told while it ran, as the status shows it: what ends
    an attempt without a word leaves it no time to say so. 0: there is none."""
    return turn.status.checkpoint.step if stage == "train" and turn.status.checkpoint else 0


def _make_anew(given: Input, turn: Turn, observed: ObservedJob, error: StageError) -> Turn:
    """What an earlier stage made is damaged or gone: it runs again, and finds or makes it."""
    for stage in STAGES[: STAGES.index(observed.stage)]:
        turn = turn.with_stage(StageStatus(name=stage))
    return turn.stop(observed.stage, given.observed.jobs.values(), error.message, error)


def _is_final(given: Input, retry: Retry, attempts: int) -> bool:
    if given.settings.local and retry.needs_a_person:
        return True
    return retry is Retry.NEVER or (retry is Retry.BACKOFF and attempts > given.resource.spec.max_retries)


def _try_again(given: Input, turn: Turn, observed: ObservedJob, error: StageError, attempts: int) -> Turn:
    doubled = 2 ** min(max(attempts - 1, 0), 16)
    pause = min(given.settings.first_retry_after * doubled, given.settings.longest_retry_after)
    left = (observed.ended or given.now) + pause - given.now
    if left <= timedelta(0):
        if error.reason is Reason.ARTIFACT_CORRUPT:
            return _make_anew(given, turn, observed, error)
        return turn.stop(observed.stage, [observed], error.message, error)
    return turn.wait(observed.stage, error, left)

"""What the Job of a step says, and what follows from it."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from lorafinetune.api.reasons import Reason, Retry
from lorafinetune.api.status import StageName, StageStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Result, StageError
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.conditions import IN_QUEUE, QUEUED, Situation
from lorafinetune.core.jobs import job
from lorafinetune.core.observed import TEMPLATE_ANNOTATION, ObservedJob
from lorafinetune.core.refusals import refusal
from lorafinetune.core.reminders import reminded
from lorafinetune.core.results import record, with_progress
from lorafinetune.core.steps import Step, arguments_of, refresh_of, stage_status
from lorafinetune.core.walk import Input, Walk

MAX_ATTEMPTS: Final = 1000
"""More are not counted: a run may wait for years."""
CHECK_AGAIN: Final = timedelta(seconds=30)
"""When to check again what no watch reports."""


def follow(inputs: Input, walk: Walk, current: Step) -> Walk:
    """The walk after the Job of the current step was observed; without one, it is created."""
    observed = inputs.observed.jobs.get(current.job)
    walk = _with_progress(inputs, walk, current, observed)
    if observed is None:
        return _without_job(inputs, walk, current)
    if inputs.resource.spec.suspend and observed.state in ("queued", "active", "leaving"):
        return walk.suspend(current.stage, [observed])
    if observed.state == "leaving" or observed.name in walk.delete:
        return walk.stop(current.stage, [observed], "the Job is leaving")
    if observed.state in ("queued", "active"):
        return _unfinished(inputs, walk, current, observed)
    walk = walk.with_stage(_begun(inputs, walk, observed))
    if isinstance(observed.outcome, Result):
        status = record(
            walk.status, current.stage, current.inputs, observed.outcome, observed.ended or inputs.now
        )
        return replace(walk, status=status)
    if observed.outcome is None:
        return _lost(inputs, walk, observed)
    return _failed(inputs, walk, observed, observed.outcome)


def _with_progress(inputs: Input, walk: Walk, current: Step, observed: ObservedJob | None) -> Walk:
    progress = inputs.progress.get(current.job)
    if progress is None or (observed and observed.outcome):
        return walk
    recorded = stage_status(walk.status, current.stage)
    return replace(walk, status=with_progress(walk.status, inputs.resource, recorded, progress, inputs.now))


def _begun(inputs: Input, walk: Walk, observed: ObservedJob) -> StageStatus:
    """The stage with its Job and its beginning, which were not written where the write failed that followed
    the creation."""
    recorded = stage_status(walk.status, observed.stage)
    started = recorded.start_time or rfc3339(observed.started or inputs.now)
    return recorded.model_copy(update={"job": observed.name, "start_time": started})


def _without_job(inputs: Input, walk: Walk, current: Step) -> Walk:
    stage, name = current.stage, current.job
    if inputs.resource.spec.suspend:
        return replace(walk, situation=Situation("Suspended", "Suspended", "spec.suspend is set", stage))
    if other := inputs.observed.others.get(name):
        return _same_name(inputs, walk, stage, other)
    if name in inputs.taken:
        taken = f"a Job {name} that is not ours exists in the namespace {inputs.resource.metadata.namespace}"
        return walk.wait(stage, StageError(Reason.NAME_TAKEN, taken), CHECK_AGAIN)
    if name in inputs.refused:
        return walk.wait(stage, refusal(inputs.refused[name]), CHECK_AGAIN)
    return _create(inputs, walk, current)


def _create(inputs: Input, walk: Walk, current: Step) -> Walk:
    stage = current.stage
    recorded = stage_status(walk.status, stage)
    started = recorded.model_copy(
        update={
            "state": "Running",
            "job": current.job,
            "start_time": recorded.start_time or rfc3339(inputs.now),
            "progress": None,
            "message": None,
        }
    )
    arguments = arguments_of(stage, inputs.resource, walk.status)
    checkpoint = max(recorded.checkpoint_step or 0, _reported_step(walk, stage))
    created = job(current, arguments, inputs.resource, recorded.attempts + 1, inputs.settings, checkpoint)
    return replace(
        walk.with_stage(started),
        create=(created,),
        situation=_running(stage),
    )


def _running(stage: StageName) -> Situation:
    """One wording from the creation of the Job to its end, so that its start alone costs no write."""
    return Situation("Running", stage.capitalize(), f"{stage} is running", stage)


def _same_name(inputs: Input, walk: Walk, stage: StageName, other: ObservedJob) -> Walk:
    """Another resource's Job has the name. A training of the same key runs once: the other's result is
    found by `prepare`; a failed one makes room, once its own resource has had time to try again."""
    if other.state in ("leaving", "queued", "active") or stage != "train":
        return _wait_for_other(walk, stage, other)
    ended = other.ended or inputs.now
    prepared = stage_status(walk.status, "prepare").completion_time
    if other.state == "complete" and (prepared is None or prepared <= rfc3339(ended)):
        blank = StageStatus(name="prepare")
        old = inputs.observed.of("prepare")
        message = f"the training ended for {other.resource}; prepare runs again to find it"
        return walk.with_stage(blank).stop("prepare", old, message)
    if inputs.now - ended < inputs.settings.longest_retry_after:
        return replace(_wait_for_other(walk, stage, other), check_again=CHECK_AGAIN)
    return walk.stop(stage, [other], f"the ended training of {other.resource} makes room")


def _wait_for_other(walk: Walk, stage: StageName, other: ObservedJob) -> Walk:
    does = "trains" if stage == "train" else f"runs {stage} for"
    message = f"{other.resource} {does} the same; its result will be used"
    waiting = stage_status(walk.status, stage).model_copy(update={"state": "Waiting", "message": message})
    situation = Situation("Waiting", "WaitingForSameKey", message, stage)
    return replace(walk.with_stage(waiting), situation=situation)


def _unfinished(inputs: Input, walk: Walk, current: Step, observed: ObservedJob) -> Walk:
    """A Job that waits or runs. An edit reaches a queued one at once, and a running one's next attempt."""
    stage = observed.stage
    is_edited = _is_edited(inputs, walk, current, observed)
    if is_edited and (observed.state == "queued" or observed.trouble):
        return walk.stop(stage, [observed], "the Job is made anew after an edit")
    if _has_no_image(observed) and _would_differ(inputs, walk, current, observed):
        return walk.stop(stage, [observed], "the Job is made anew with another image")
    recorded = _begun(inputs, walk, observed)
    again = CHECK_AGAIN if observed.leaving_pods else None
    if observed.trouble:
        return walk.with_stage(recorded).wait(stage, observed.trouble, again)
    walk = replace(walk, check_again=again)
    if observed.state == "queued":
        return _queued(walk, recorded, observed.held)
    is_over = recorded.state == "Waiting" and current.job not in inputs.progress
    message = None if is_over else recorded.message
    running = recorded.model_copy(update={"state": "Running", "message": message})
    situation = _running(stage)
    if is_edited:
        message = f"{stage} is running; the edit takes effect with its next attempt"
        situation = Situation("Running", "AppliesAtNextAttempt", message, stage)
    walk = replace(walk.with_stage(running), situation=situation)
    return walk if inputs.settings.local else reminded(walk, observed, inputs.now)


def _queued(walk: Walk, recorded: StageStatus, held: str) -> Walk:
    """held: why, in the queue's words, where it has said it."""
    message = f"{IN_QUEUE}: {held}" if held else IN_QUEUE
    waiting = recorded.model_copy(update={"state": "Waiting", "message": message})
    return replace(walk.with_stage(waiting), situation=Situation("Waiting", QUEUED, message, recorded.name))


def _is_edited(inputs: Input, walk: Walk, current: Step, observed: ObservedJob) -> bool:
    """Whether a Job made now would differ, because the spec was edited. A new operator edits nothing."""
    is_older = observed.generation != inputs.resource.metadata.generation
    return is_older and _would_differ(inputs, walk, current, observed)


def _has_no_image(observed: ObservedJob) -> bool:
    """Whether its pod can't start for want of an image, which another setting of the operator may mend."""
    return observed.trouble is not None and observed.trouble.reason is Reason.IMAGE_PULL


def _would_differ(inputs: Input, walk: Walk, current: Step, observed: ObservedJob) -> bool:
    """Whether a Job made now would not be the one that is there."""
    arguments = arguments_of(current.stage, inputs.resource, walk.status)
    wanted = job(current, arguments, inputs.resource, observed.attempt, inputs.settings)
    return bool(wanted["metadata"]["annotations"][TEMPLATE_ANNOTATION] != observed.template)


def _lost(inputs: Input, walk: Walk, observed: ObservedJob) -> Walk:
    """A Job that is done but whose result is gone. A lost training is found again by `prepare`."""
    again: StageName = "prepare" if observed.stage == "train" else observed.stage
    jobs = [observed, *(job for job in inputs.observed.of(again) if job is not observed)]
    message = f"the result was lost; {again} runs again to find it"
    return walk.with_stage(StageStatus(name=again)).stop(again, jobs, message)


def _failed(inputs: Input, walk: Walk, observed: ObservedJob, error: StageError) -> Walk:
    retry = error.reason.facts.retry
    if retry is Retry.FREE:
        return walk.stop(observed.stage, [observed], error.message, error)
    made_for = (observed.generation, observed.refresh)
    if made_for != (inputs.resource.metadata.generation, refresh_of(inputs.resource)):
        return walk.stop(observed.stage, [observed], "tried again after an edit")
    furthest = max(error.checkpoint or 0, _reported_step(walk, observed.stage))
    counted = _counted(stage_status(walk.status, observed.stage), observed, error, furthest)
    against = 0 if furthest > observed.checkpoint else counted.attempts
    if _is_final(inputs, retry, against):
        failed = counted.model_copy(update={"state": "Failed"})
        situation = Situation("Failed", error.reason, error.message, observed.stage)
        return replace(walk.with_stage(failed), situation=situation, error=error)
    return _try_again(inputs, walk.with_stage(counted), observed, error, counted.attempts)


def _counted(recorded: StageStatus, observed: ObservedJob, error: StageError, furthest: int) -> StageStatus:
    """The stage after a failed attempt, however often that is observed. furthest: step of the last
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


def _reported_step(walk: Walk, stage: StageName) -> int:
    """Step of the newest checkpoint of which a training told while it ran, as the status shows it: what ends
    an attempt without a word leaves it no time to say so. 0: there is none."""
    return walk.status.checkpoint.step if stage == "train" and walk.status.checkpoint else 0


def _make_anew(inputs: Input, walk: Walk, observed: ObservedJob, error: StageError) -> Walk:
    """What an earlier stage made is damaged or gone: it runs again, and finds or makes it."""
    for stage in STAGES[: STAGES.index(observed.stage)]:
        walk = walk.with_stage(StageStatus(name=stage))
    return walk.stop(observed.stage, inputs.observed.jobs.values(), error.message, error)


def _is_final(inputs: Input, retry: Retry, attempts: int) -> bool:
    if inputs.settings.local and retry.needs_a_person:
        return True
    return retry is Retry.NEVER or (retry is Retry.BACKOFF and attempts > inputs.resource.spec.max_retries)


def _try_again(inputs: Input, walk: Walk, observed: ObservedJob, error: StageError, attempts: int) -> Walk:
    doubled = 2 ** min(max(attempts - 1, 0), 16)
    pause = min(inputs.settings.first_retry_after * doubled, inputs.settings.longest_retry_after)
    left = (observed.ended or inputs.now) + pause - inputs.now
    if left <= timedelta(0):
        if error.reason is Reason.ARTIFACT_CORRUPT:
            return _make_anew(inputs, walk, observed, error)
        return walk.stop(observed.stage, [observed], error.message, error)
    return walk.wait(observed.stage, error, left)

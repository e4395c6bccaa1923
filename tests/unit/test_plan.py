"""The plan, as a table of situations."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import REFRESH_ANNOTATION
from lorafinetune.api.status import (
    Estimate,
    GpuSeconds,
    LoRAFineTuneStatus,
    StageName,
    StageProgress,
    TrainingStatus,
)
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import ExportResult, PrepareResult, Progress, StageError, TrainResult
from lorafinetune.core.events import Event
from lorafinetune.core.steps import stage_status, watched_jobs
from unit.world import World

Step = Callable[[World], object]


def run_until(stage: StageName) -> Step:
    """Every stage before this one succeeds, and this one's Job runs."""

    def steps(world: World) -> None:
        world.settle()
        while (job := world.active()) and job.stage != stage:
            world.succeed()
            world.settle()

    return steps


def done(world: World) -> object:
    return world.run_to_end()


def conditions(status: LoRAFineTuneStatus) -> set[str]:
    return {condition.type for condition in status.conditions if condition.status == "True"}


def lose_the_result(world: World) -> None:
    """The active Job succeeds, and its pod is gone before anybody read its words."""
    job = world.active()
    assert job is not None
    world.succeed()
    world.jobs[job.name] = replace(world.jobs[job.name], outcome=None)


def failing_at(checkpoint: int, reason: Reason) -> Step:
    """The active Job fails, after it left a checkpoint."""
    return lambda world: world.fail(reason, checkpoint=checkpoint)


SITUATIONS: dict[str, tuple[list[Step], str, set[str], list[str]]] = {
    "a new resource starts its download": ([World.settle], "Download", {"Reconciling"}, ["download"]),
    "a stage starts when the one before has its result": (
        [run_until("prepare")],
        "Prepare",
        {"Reconciling"},
        ["download", "prepare"],
    ),
    "only after the preparation is a training started": (
        [run_until("train")],
        "Train",
        {"Reconciling", "Validated"},
        ["download", "prepare", "train"],
    ),
    "what the training has made is exported": (
        [run_until("export")],
        "Export",
        {"Reconciling", "Validated"},
        list(STAGES),
    ),
    "a run in which all goes well is complete": (
        [done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        list(STAGES),
    ),
    "bad input fails at once, and is not tried again": (
        [run_until("prepare"), lambda w: w.fail(Reason.DATASET_INVALID), World.settle],
        "Failed",
        {"Stalled", "Failed"},
        ["download", "prepare"],
    ),
    "a store that is away is tried again": (
        [World.settle, lambda w: w.fail(Reason.STORAGE_UNAVAILABLE), World.settle],
        "Download",
        {"Reconciling"},
        ["download", "download"],
    ),
    "a store that stays away fails after maxRetries": (
        [World.settle, *[lambda w: w.fail(Reason.STORAGE_UNAVAILABLE), World.settle] * 4],
        "Failed",
        {"Stalled", "Failed"},
        ["download"] * 4,
    ),
    "a preemption is never counted": (
        [run_until("train"), *[lambda w: w.fail(Reason.PREEMPTED), World.settle] * 9],
        "Train",
        {"Reconciling", "Validated"},
        ["download", "prepare", *["train"] * 10],
    ),
    "a training that loses a rank is not counted while each attempt leaves a newer checkpoint": (
        [
            run_until("train"),
            *[step for at in range(1, 10) for step in (failing_at(at, Reason.RANK_LOST), World.settle)],
        ],
        "Train",
        {"Reconciling", "Validated"},
        ["download", "prepare", *["train"] * 10],
    ),
    "a training whose attempts leave no newer checkpoint fails after maxRetries": (
        [run_until("train"), *[failing_at(7, Reason.STALLED), World.settle] * 5],
        "Failed",
        {"Stalled", "Failed", "Validated"},
        ["download", "prepare", *["train"] * 5],
    ),
    "what no attempt can pass is not tried again, however far it came": (
        [run_until("train"), failing_at(7, Reason.LOSS_DIVERGED), World.settle],
        "Failed",
        {"Stalled", "Failed", "Validated"},
        ["download", "prepare", "train"],
    ),
    "a Job that ends without a word is tried again": (
        [World.settle, lambda w: w.fail(Reason.INTERNAL), World.settle],
        "Download",
        {"Reconciling"},
        ["download", "download"],
    ),
    "a result that was lost is found by running the CPU stage again": (
        [run_until("prepare"), lambda w: w.end(None), World.settle],
        "Prepare",
        {"Reconciling"},
        ["download", "prepare", "prepare"],
    ),
    "a training whose result was lost is found by prepare, without a GPU": (
        [run_until("train"), lose_the_result, done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "train", "prepare", "export"],
    ),
    "a training that the store has already is not run": (
        [done, lambda w: fresh(w), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        [*STAGES, "download", "prepare", "export"],
    ),
    "suspend stops the running stage and stays": (
        [run_until("train"), lambda w: w.edit({"suspend": True}), World.settle],
        "Suspended",
        {"Suspended", "Validated"},
        ["download", "prepare", "train"],
    ),
    "a suspended run goes on when it is resumed": (
        [
            run_until("train"),
            lambda w: w.edit({"suspend": True}),
            World.settle,
            lambda w: w.edit({"suspend": False}),
            done,
        ],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "train", "train", "export"],
    ),
    "a resource that is born suspended starts nothing": (
        [lambda w: w.edit({"suspend": True}), World.settle],
        "Suspended",
        {"Suspended"},
        [],
    ),
    "an edit of a field that shapes nothing re-runs nothing": (
        [done, lambda w: w.edit({"ttlSecondsAfterFinished": 60}), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        list(STAGES),
    ),
    "an edit of the export re-runs the export alone": (
        [done, lambda w: w.edit({"export": {"merged": {"maxShardSize": "1GB"}}}), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        [*STAGES, "export"],
    ),
    "a tracker that is added after the end re-runs the export alone": (
        [done, lambda w: w.edit({"export": {"trackers": [{"name": "tensorboard"}]}}), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        [*STAGES, "export"],
    ),
    "an edit of the learning rate re-runs from prepare, which makes the new key": (
        [done, lambda w: w.edit({"training": {"learningRate": "2e-4"}}), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        [*STAGES, "prepare", "train", "export"],
    ),
    "an edit that changes the key stops the running training": (
        [run_until("train"), lambda w: w.edit({"training": {"learningRate": "2e-4"}}), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "train", "prepare", "train", "export"],
    ),
    "an edit that does not change the key lets the training go on": (
        [run_until("train"), lambda w: w.edit({"training": {"checkpoint": {"keep": 5}}}), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        list(STAGES),
    ),
    "an edit gives a failed run another chance": (
        [
            run_until("prepare"),
            lambda w: w.fail(Reason.DATASET_INVALID),
            World.settle,
            lambda w: w.edit({"datasets": [{"source": "s3://data/mended.json"}]}),
            done,
        ],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "download", "prepare", "train", "export"],
    ),
    "an edit of a connection gives a run that failed for its credentials another chance": (
        [
            World.settle,
            lambda w: w.fail(Reason.CREDENTIALS_INVALID),
            World.settle,
            lambda w: w.edit({"connections": [{"name": "store", "secretRef": {"name": "other"}}]}),
            done,
        ],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", *STAGES],
    ),
    "a new value of the refresh annotation resolves revisions anew": (
        [done, lambda w: w.annotate(REFRESH_ANNOTATION, "2"), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        [*STAGES, "download"],
    ),
    "a new value of the refresh annotation gives a failed run another chance": (
        [
            World.settle,
            lambda w: w.fail(Reason.MODEL_GATED),
            World.settle,
            lambda w: w.annotate(REFRESH_ANNOTATION, "2"),
            done,
        ],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", *STAGES],
    ),
    "credentials that are refused are tried again for as long as it takes": (
        [World.settle, *[lambda w: w.fail(Reason.CREDENTIALS_INVALID), World.settle] * 9],
        "Download",
        {"Reconciling"},
        ["download"] * 10,
    ),
    "a new value of the refresh annotation retries a later stage that failed for good": (
        [
            run_until("train"),
            lambda w: w.fail(Reason.GPU_UNAVAILABLE),
            World.settle,
            lambda w: w.annotate(REFRESH_ANNOTATION, "2"),
            done,
        ],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "train", "download", "train", "export"],
    ),
    "a refresh that fails ends the training that runs": (
        [
            run_until("train"),
            lambda w: w.annotate(REFRESH_ANNOTATION, "2"),
            World.settle,
            lambda w: w.fail_stage("download", Reason.MODEL_GATED),
            World.settle,
        ],
        "Failed",
        {"Stalled", "Failed"},
        ["download", "prepare", "train", "download"],
    ),
    "a suspension together with a refresh stops the training that runs": (
        [
            run_until("train"),
            lambda w: w.annotate(REFRESH_ANNOTATION, "2"),
            lambda w: w.edit({"suspend": True}),
            World.settle,
        ],
        "Suspended",
        {"Suspended"},
        ["download", "prepare", "train"],
    ),
    "a suspended resource does not wait for another's training": (
        [run_until("train"), World.hand_over, lambda w: w.edit({"suspend": True}), World.settle],
        "Suspended",
        {"Suspended", "Validated"},
        ["download", "prepare"],
    ),
    "an output that is gone is made again": (
        [run_until("export"), lambda w: w.fail(Reason.ARTIFACT_CORRUPT), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        [*STAGES, "download", "prepare", "export"],
    ),
    "an edit that is bad ends the training that runs": (
        [
            run_until("train"),
            lambda w: w.edit({"training": {"extraArgs": {"output_dir": "/"}}}),
            World.settle,
        ],
        "Failed",
        {"Stalled", "Failed"},
        ["download", "prepare", "train"],
    ),
    "an edit of the queue makes a queued training anew": (
        [
            lambda w: w.edit({"scheduling": {"queueName": "gpsu"}}),
            run_until("train"),
            lambda w: w.edit({"scheduling": {"queueName": "gpus"}}),
            World.settle,
        ],
        "Train",
        {"Reconciling", "Validated", "Queued"},
        ["download", "prepare", "train", "train"],
    ),
    "a forbidden extra argument fails before any Job": (
        [lambda w: w.edit({"training": {"extraArgs": {"deepspeed": "x.json"}}}), World.settle],
        "Failed",
        {"Stalled", "Failed"},
        [],
    ),
    "a local path fails before any Job on a cluster": (
        [lambda w: w.edit({"model": {"source": "file:///etc"}}), World.settle],
        "Failed",
        {"Stalled", "Failed"},
        [],
    ),
    "a queued training waits": (
        [lambda w: w.edit({"scheduling": {"queueName": "gpus"}}), run_until("train")],
        "Train",
        {"Reconciling", "Validated", "Queued"},
        ["download", "prepare", "train"],
    ),
    "a stage whose image can't be pulled waits, and its Job stays": (
        [World.settle, lambda w: w.trouble(Reason.IMAGE_PULL), World.settle],
        "Download",
        {"Reconciling"},
        ["download"],
    ),
    "a stage whose image can't be pulled is made anew once the operator knows another image": (
        [
            World.settle,
            lambda w: w.trouble(Reason.IMAGE_PULL),
            World.settle,
            lambda w: w.install("2"),
            World.settle,
        ],
        "Download",
        {"Reconciling"},
        ["download", "download"],
    ),
    "an operator with other images leaves a stage alone that waits for something else": (
        [
            World.settle,
            lambda w: w.trouble(Reason.UNSCHEDULABLE),
            World.settle,
            lambda w: w.install("2"),
            World.settle,
        ],
        "Download",
        {"Reconciling"},
        ["download"],
    ),
    "a stage that waited goes on by itself once the cause is mended": (
        [World.settle, lambda w: w.trouble(Reason.SECRET_MISSING), lambda w: w.trouble(None), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        list(STAGES),
    ),
    "an edit makes a Job that is in trouble anew": (
        [
            World.settle,
            lambda w: w.trouble(Reason.ADMISSION_DENIED),
            lambda w: w.edit({"resources": {"download": {"scratch": "1Gi"}}}),
            World.settle,
        ],
        "Download",
        {"Reconciling"},
        ["download", "download"],
    ),
    "an edit of the placement makes a queued training anew": (
        [
            lambda w: w.edit({"scheduling": {"queueName": "gpus"}}),
            run_until("train"),
            lambda w: w.edit({"scheduling": {"nodeSelector": {"a": "b"}}}),
            World.settle,
        ],
        "Train",
        {"Reconciling", "Validated", "Queued"},
        ["download", "prepare", "train", "train"],
    ),
    "an edit of the placement lets a running training go on": (
        [
            run_until("train"),
            lambda w: w.edit({"scheduling": {"nodeSelector": {"a": "b"}}}),
            World.settle,
        ],
        "Train",
        {"Reconciling", "Validated"},
        ["download", "prepare", "train"],
    ),
    "a training that another resource runs is waited for": (
        [run_until("train"), World.hand_over, World.settle],
        "Train",
        {"Reconciling", "Validated"},
        ["download", "prepare"],
    ),
    "a training that another resource has done is found by prepare": (
        [run_until("train"), lambda w: the_other_succeeds(w), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "prepare", "export"],
    ),
    "a training that failed for another resource makes room": (
        [run_until("train"), lambda w: w.hand_over(state="failed", ended=w.now), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        list(STAGES),
    ),
    "a training whose result another resource lost makes room": (
        [run_until("train"), lambda w: w.hand_over(state="complete", ended=w.now), done],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "prepare", "train", "export"],
    ),
    "a pod that outlives its Job blocks the next one": (
        [lambda w: w.left_behind.update({first_job(w): 1}), World.reconcile],
        "Download",
        {"Reconciling"},
        [],
    ),
    "a pod that outlives its Job blocks that of a later spec, too": (
        [
            run_until("prepare"),
            lambda w: w.vanish(pods=1),
            lambda w: w.edit({"training": {"learningRate": "2e-4"}}),
            World.reconcile,
            World.reconcile,
        ],
        "Prepare",
        {"Reconciling"},
        ["download", "prepare"],
    ),
    "once that pod is gone, the later spec has its turn": (
        [
            run_until("prepare"),
            lambda w: w.vanish(pods=1),
            lambda w: w.edit({"training": {"learningRate": "2e-4"}}),
            World.reconcile,
            lambda w: w.left_behind.clear(),
            done,
        ],
        "Complete",
        {"Ready", "Complete", "Validated"},
        ["download", "prepare", "prepare", "train", "export"],
    ),
    "a name that a stranger's Job has is waited for": (
        [lambda w: w.blocked.update({first_job(w): None}), World.reconcile],
        "Download",
        {"Reconciling"},
        [],
    ),
    "a Job that the cluster refuses is waited for": (
        [lambda w: w.blocked.update({first_job(w): "exceeded quota: jobs"}), World.reconcile],
        "Download",
        {"Reconciling"},
        [],
    ),
}


def first_job(world: World) -> str:
    return next(iter(watched_jobs(world.resource)))


def the_other_succeeds(world: World) -> None:
    """The training turns out to be another resource's, and ends with its result in the store."""
    world.succeed()
    name = stage_status(world.status, "train").job
    assert name is not None
    world.others[name] = replace(world.jobs.pop(name), resource="other", ended=world.now)
    world.created.pop()


def fresh(world: World) -> None:
    """A new cluster with the same store: no status and no Jobs."""
    world.jobs = {}
    world.resource = world.resource.model_copy(update={"status": None})


@pytest.mark.parametrize("sentence", SITUATIONS)
def test_situation(sentence: str) -> None:
    steps, stage, true_conditions, stages_run = SITUATIONS[sentence]
    world = World()
    for step in steps:
        step(world)
    assert (world.status.stage, conditions(world.status), world.stages_run()) == (
        stage,
        true_conditions,
        stages_run,
    )


def test_a_plan_of_nothing_new_changes_nothing() -> None:
    world = World()
    run_until("train")(world)
    before = world.resource
    assert (world.reconcile().events, world.resource) == ((), before)


@pytest.mark.parametrize("is_over", [False, True], ids=["while it runs", "when it is over"])
def test_a_stage_whose_beginning_could_not_be_written_is_told_with_its_job_and_time(is_over: bool) -> None:
    world = World()
    before = world.resource
    world.reconcile()
    told = world.status.stages[0]
    world.resource = before
    if is_over:
        world.succeed()
    world.reconcile()
    again = world.status.stages[0]
    assert (again.job, again.start_time) == (told.job, told.start_time)
    assert again.state == ("Complete" if is_over else "Running")


def test_a_failure_says_stage_reason_message_and_hint_and_goes_when_all_is_well() -> None:
    world = World()
    run_until("prepare")(world)
    world.end(StageError(Reason.DATASET_INVALID, "rows.json:7: output: is empty"))
    failure = world.settle().failure
    assert failure is not None
    assert failure.encode() == {
        "stage": "prepare",
        "reason": "DatasetInvalid",
        "message": "rows.json:7: output: is empty",
        "hint": "Mend the rows named in the message, or set `onBadRow: skip` on the dataset.",
    }
    world.edit({"datasets": [{"source": "s3://data/mended.json"}]})
    assert world.run_to_end().failure is None


def test_a_pause_between_two_attempts_grows() -> None:
    world = World()
    pauses = []
    for _ in range(3):
        world.settle()
        world.fail(Reason.HUB_UNAVAILABLE)
        made = world.reconcile()
        assert made.check_again is not None
        pauses.append(made.check_again.total_seconds())
    assert pauses == [10, 20, 40]


def test_an_attempt_is_counted_once_however_often_it_is_seen() -> None:
    world = World()
    world.settle()
    world.fail(Reason.STORAGE_UNAVAILABLE)
    for _ in range(5):
        world.reconcile()
    assert stage_status(world.status, "download").attempts == 1


def test_an_attempt_that_came_further_is_not_counted_however_often_it_is_seen() -> None:
    world = World()
    run_until("train")(world)
    for checkpoint, attempts in ((5, 0), (5, 1), (4, 2), (6, 2), (None, 3)):
        world.fail(Reason.GPU_FAULT, checkpoint=checkpoint)
        for _ in range(5):
            pause = world.reconcile().check_again
        assert pause
        assert pause.total_seconds() == 10 * 2 ** max(attempts - 1, 0)
        assert stage_status(world.status, "train").attempts == attempts
        world.settle()
    assert stage_status(world.status, "train").checkpoint_step == 6


COUNTED: dict[str, tuple[list[tuple[int | None, int | None]], int]] = {
    "each that told of a newer checkpoint and was then killed": ([(5, None), (6, None), (9, None)], 0),
    "one that was killed before it told of any": ([(None, None)], 1),
    "one that told of no newer checkpoint than the one it went on from": ([(5, None), (5, None)], 1),
    "one that told of none, after one that did": ([(5, None), (None, None)], 1),
    "one that went on from an older one, as the newer was damaged": ([(5, None), (4, None)], 1),
    "one that said in the end that it had left a newer one than it had told of": ([(5, 7)], 0),
    "one that told of none newer than its predecessor had left with its last words": ([(5, 7), (7, None)], 1),
}
"""What attempts tell of their checkpoints: while they run, and in the end, if they come to say anything."""


@pytest.mark.parametrize("sentence", COUNTED)
def test_of_attempts_at_a_training_is_counted_or_not(sentence: str) -> None:
    said, attempts = COUNTED[sentence]
    world = World()
    run_until("train")(world)
    for told, left in said:
        tell_of_checkpoint(world, told)
        world.reconcile()
        world.fail(Reason.INTERNAL, checkpoint=left)
        world.progress = {}
        for _ in range(3):
            world.reconcile()
        world.settle()
    assert stage_status(world.status, "train").attempts == attempts


def tell_of_checkpoint(world: World, step: int | None) -> None:
    job = world.active()
    assert job is not None
    told = Progress(stage="train", activity="training", done=9, total=20, checkpoint_step=step)
    world.progress = {job.name: told}


def test_a_training_that_is_killed_again_and_again_before_its_first_checkpoint_fails() -> None:
    world = World()
    run_until("train")(world)
    for _ in range(world.resource.spec.max_retries + 1):
        tell_of_checkpoint(world, None)
        world.reconcile()
        world.fail(Reason.INTERNAL)
        world.settle()
    assert stage_status(world.status, "train").state == "Failed"


def test_a_checkpoint_of_the_training_counts_for_no_other_stage() -> None:
    world = World()
    run_until("train")(world)
    tell_of_checkpoint(world, 5)
    world.reconcile()
    world.progress = {}
    world.succeed()
    run_until("export")(world)
    world.fail(Reason.STORAGE_UNAVAILABLE)
    world.reconcile()
    assert stage_status(world.status, "export").attempts == 1


def test_a_training_of_another_key_begins_at_no_checkpoint() -> None:
    world = World()
    run_until("train")(world)
    world.fail(Reason.GPU_FAULT, checkpoint=5)
    world.reconcile()
    world.edit({"training": {"learningRate": "3e-4"}})
    run_until("train")(world)
    world.fail(Reason.GPU_FAULT, checkpoint=1)
    world.reconcile()
    train = stage_status(world.status, "train")
    assert (train.attempts, train.checkpoint_step) == (0, 1)


def test_progress_of_the_running_job_is_shown() -> None:
    world = World()
    run_until("train")(world)
    job = world.active()
    assert job is not None
    training = TrainingStatus(step=42, total_steps=100, loss="1.5")
    world.progress = {
        job.name: Progress(
            stage="train",
            activity="training",
            done=42,
            total=100,
            eta_seconds=5400,
            training=training,
            resumes=2,
        )
    }
    world.reconcile()
    status = world.status
    assert (status.progress, status.eta, status.loss, status.training) == ("42%", "1h30m", "1.5", training)
    assert status.resumes == 2


def test_a_training_whose_inputs_are_copied_is_not_any_further_by_that() -> None:
    world = World()
    run_until("train")(world)
    job = world.active()
    assert job is not None
    world.progress = {job.name: Progress(stage="train", done=7, total=9, unit="bytes", eta_seconds=3)}
    world.reconcile()
    assert (world.status.progress, world.status.eta) == (None, None)
    assert stage_status(world.status, "train").progress == StageProgress(done=7, total=9, unit="bytes")


def test_training_is_capped_at_99_percent_until_its_result_is_there() -> None:
    world = World()
    run_until("train")(world)
    job = world.active()
    assert job is not None
    world.progress = {job.name: Progress(stage="train", done=100, total=100)}
    world.reconcile()
    assert world.status.progress == "99%"


def test_events_tell_the_story_once() -> None:
    world = World()
    world.run_to_end()
    for _ in range(3):
        world.reconcile()
    job = {stage: stage_status(world.status, stage).job for stage in STAGES}
    assert [(e.reason, e.message) for e in world.events] == [
        ("StageStarted", f"download began as Job {job['download']}"),
        ("StageComplete", "download is complete"),
        ("StageStarted", f"prepare began as Job {job['prepare']}"),
        (
            "FloatingRevision",
            "spec.model.revision: the default branch is commit c0ffee now, which is kept; name it to pin it",
        ),
        ("StageComplete", "prepare is complete"),
        ("StageStarted", f"train began as Job {job['train']}"),
        ("StageComplete", "train is complete"),
        ("StageStarted", f"export began as Job {job['export']}"),
        ("StageComplete", "export is complete"),
        ("Complete", "all stages are complete"),
    ]


ENDINGS: dict[str, tuple[dict[str, Any], str]] = {
    "it stopped early": ({"step": 12, "stopped_early": True}, "stopped early at step 12 of 30"),
    "the best is its result": ({"step": 30, "best_step": 8}, "kept the adapter of step 8 of 30"),
    "both": (
        {"step": 12, "stopped_early": True, "best_step": 8},
        "stopped early at step 12 of 30, and kept the adapter of step 8",
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("found", [False, True], ids=["trained", "found in the store"])
def test_how_a_training_ended_is_said(ending: str, found: bool) -> None:
    numbers, words = ENDINGS[ending]
    world = World()
    run_until("prepare" if found else "train")(world)
    ended = TrainingStatus(total_steps=30, **numbers)
    outcome = world.result("train")
    assert isinstance(outcome, TrainResult)
    trained = outcome.model_copy(update={"training": ended})
    prepared = world.result("prepare")
    assert isinstance(prepared, PrepareResult)
    world.end(prepared.model_copy(update={"trained": trained}) if found else trained)
    world.run_to_end()
    said = [event.message for event in world.events]
    how = "was found in the store" if found else "is complete"
    assert f"train {how}: {words}" in said
    assert said[-1] == f"all stages are complete; the training {words}"
    complete = next(c for c in world.status.conditions if c.type == "Complete")
    assert (complete.status, complete.message) == ("True", said[-1])
    assert world.status.training == ended


@pytest.mark.parametrize(
    ("model", "warned"),
    [
        pytest.param({"revision": "main"}, True, id="a branch"),
        pytest.param({"revision": "c0ffee"}, False, id="the commit"),
        pytest.param({"source": "s3://models/base"}, False, id="a source without commits"),
    ],
)
def test_a_revision_that_can_move_is_a_warning(model: dict[str, str], warned: bool) -> None:
    world = World({"model": model})
    world.run_to_end()
    assert ("FloatingRevision" in {event.reason for event in world.events}) == warned


WAITS: dict[str, tuple[list[Step], str, str, str]] = {
    "for a Secret that is missing": (
        [World.settle, lambda w: w.trouble(Reason.SECRET_MISSING, 'secret "s3" not found')],
        "SecretMissing",
        'secret "s3" not found',
        "Create it with the keys that the connection needs; the run then goes on within a minute.",
    ),
    "for a quota on Jobs": (
        [lambda w: w.blocked.update({first_job(w): "exceeded quota: jobs"})],
        "QuotaExceeded",
        "exceeded quota: jobs",
        Reason.QUOTA_EXCEEDED.facts.hint,
    ),
    "for a name": (
        [lambda w: w.blocked.update({first_job(w): None})],
        "NameTaken",
        "a Job {job} that is not ours exists in the namespace team-a",
        Reason.NAME_TAKEN.facts.hint,
    ),
    "for a node that is lost, even while it stops": (
        [
            run_until("train"),
            lambda w: w.edit({"suspend": True}),
            World.reconcile,
            lambda w: w.trouble(Reason.NODE_LOST, "the pod does not end"),
        ],
        "NodeLost",
        "the pod does not end",
        Reason.NODE_LOST.facts.hint,
    ),
}


@pytest.mark.parametrize("sentence", WAITS)
def test_a_run_that_waits_says_so_once(sentence: str) -> None:
    steps, reason, message, hint = WAITS[sentence]
    world = World()
    for step in steps:
        step(world)
    message = message.format(job=first_job(world))
    events = [event for _ in range(3) for event in world.reconcile().events]
    failure = world.status.failure
    assert failure is not None
    assert (failure.reason, failure.message, failure.hint) == (reason, message, hint)
    ready = next(c for c in world.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason, ready.message) == ("False", reason, message)
    assert [(e.type, e.reason, e.message) for e in events] == [("Warning", reason, message)]


def test_each_pod_that_is_taken_away_is_told_once() -> None:
    world = World()
    run_until("train")(world)
    world.events.clear()
    messages = [f"the pod tune-{letter} was evicted or preempted" for letter in "ab"]
    for message in messages:
        world.trouble(Reason.PREEMPTED, message)
        for _ in range(3):
            world.reconcile()
    world.trouble(None)
    world.reconcile()
    warned = [(event.reason, event.message) for event in world.events if event.type == "Warning"]
    assert warned == [("Preempted", message) for message in messages]
    assert (world.status.stage, world.status.failure) == ("Train", None)


IN_QUEUE = "the training waits in its queue"
FULL = "insufficient unused quota for nvidia.com/gpu"
HOLDS: dict[str, tuple[list[str], list[str]]] = {
    "it says why at once": ([FULL], [f"{IN_QUEUE}: {FULL}"]),
    "it says why later": (["", "", FULL, FULL], [IN_QUEUE, f"{IN_QUEUE}: {FULL}"]),
    "its numbers change": (
        ["", f"{FULL}, 2 more needed", f"{FULL}, 1 more needed"],
        [IN_QUEUE, f"{IN_QUEUE}: {FULL}, 2 more needed"],
    ),
    "it says nothing any more": ([FULL, ""], [f"{IN_QUEUE}: {FULL}"]),
}
"""What a queue says, look by look, and what Events say of it."""


@pytest.mark.parametrize("sentence", HOLDS)
def test_a_training_that_its_queue_holds_says_why_once_where(sentence: str) -> None:
    words, told = HOLDS[sentence]
    world = World()
    run_until("train")(world)
    world.events.clear()
    for why in words:
        world.hold(why)
        world.reconcile()
        shown = f"{IN_QUEUE}: {why}" if why else IN_QUEUE
        train = stage_status(world.status, "train")
        assert (train.state, train.message) == ("Waiting", shown)
    assert [(e.type, e.reason, e.message) for e in world.events] == [
        ("Normal", "Queued", message) for message in told
    ]


WAITED: dict[str, tuple[list[Step], str | None]] = {
    "its queue held it": ([lambda w: w.hold(FULL), World.reconcile, World.let_go], None),
    "no node had room for it": (
        [lambda w: w.trouble(Reason.UNSCHEDULABLE), World.reconcile, lambda w: w.trouble(None)],
        None,
    ),
    "it tells of its progress already": (
        [lambda w: tell_of_checkpoint(w, 5), lambda w: w.hold(FULL), World.reconcile, World.let_go],
        "training",
    ),
}


@pytest.mark.parametrize("sentence", WAITED)
def test_a_stage_says_no_longer_what_it_waited_for_where(sentence: str) -> None:
    steps, said = WAITED[sentence]
    world = World()
    run_until("train")(world)
    for step in steps:
        step(world)
    for _ in range(2):
        world.reconcile()
        train = stage_status(world.status, "train")
        assert (train.state, train.message) == ("Running", said)


def test_a_pod_that_is_taken_away_is_looked_at_again_for_its_node_may_be_lost() -> None:
    world = World()
    world.settle()
    job = world.active()
    assert job is not None
    world.jobs[job.name] = replace(job, leaving_pods=1, trouble=StageError(Reason.PREEMPTED, "evicted"))
    assert world.reconcile().check_again == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("stage", "said"), [("prepare", "stopping"), ("train", "stopping after a checkpoint")]
)
def test_a_training_alone_is_said_to_stop_after_a_checkpoint(stage: StageName, said: str) -> None:
    world = World()
    run_until(stage)(world)
    world.edit({"suspend": True})
    for _ in ("when it is asked to leave", "while it leaves"):
        world.reconcile()
        ready = next(c for c in world.status.conditions if c.type == "Ready")
        assert (ready.reason, ready.message) == ("Stopping", said)


def test_a_failure_whose_pause_is_over_when_it_is_seen_is_told_too() -> None:
    world = World()
    world.settle()
    world.fail(Reason.STORAGE_UNAVAILABLE, "http://s3:7070 does not answer")
    world.now += timedelta(minutes=1)
    told = world.reconcile().events
    why = "StorageUnavailable: http://s3:7070 does not answer"
    assert told == (Event("Warning", "StageRetried", f"download failed and is tried again: {why}"),)
    assert world.status.failure is not None
    assert world.status.failure.reason == "StorageUnavailable"


def test_a_job_that_ended_by_preemption_says_so_with_a_hint_and_goes_on() -> None:
    world = World()
    run_until("train")(world)
    world.fail(Reason.PREEMPTED, "saved a checkpoint at step 7 of 30")
    told = world.reconcile()
    failure = world.status.failure
    assert failure is not None
    assert (failure.reason, failure.hint) == ("Preempted", Reason.PREEMPTED.facts.hint)
    assert [(e.type, e.reason, e.message) for e in told.events] == [
        ("Warning", "Preempted", "saved a checkpoint at step 7 of 30")
    ]
    assert "Preempted" not in {event.reason for event in world.reconcile().events}
    assert (world.settle().stage, world.status.failure) == ("Train", None)


def test_a_run_that_waits_no_longer_has_no_failure() -> None:
    world = World()
    world.settle()
    world.trouble(Reason.UNSCHEDULABLE)
    world.reconcile()
    world.trouble(None)
    world.reconcile()
    assert (world.status.failure, stage_status(world.status, "download").state) == (None, "Running")


def test_a_suspension_with_an_edit_is_told_once_when_nothing_is_left_of_the_old_jobs() -> None:
    world = World()
    world.run_to_end()
    world.jobs = {name: job for name, job in world.jobs.items() if job.stage != "download"}
    world.edit({"suspend": True, "model": {"revision": "v2"}})
    stages = []
    for _ in range(2):
        world.reconcile()
        stages.append(world.status.stage)
    world.settle()
    assert (stages, world.status.stage) == (["Prepare", "Prepare"], "Suspended")
    assert [event.reason for event in world.events].count("Suspended") == 1


def test_an_edit_that_a_running_training_does_not_feel_is_said_to_apply_later() -> None:
    world = World()
    run_until("train")(world)
    world.edit({"scheduling": {"nodeSelector": {"a": "b"}}})
    world.reconcile()
    reconciling = next(c for c in world.status.conditions if c.type == "Reconciling")
    assert (reconciling.status, reconciling.reason) == ("True", "AppliesAtNextAttempt")


def test_a_training_that_another_resource_runs_is_named() -> None:
    world = World()
    run_until("train")(world)
    world.hand_over()
    world.reconcile()
    ready = next(c for c in world.status.conditions if c.type == "Ready")
    said = "other trains the same; its result will be used"
    assert (ready.reason, ready.message) == ("WaitingForSameKey", said)


def test_what_is_watched_can_be_told_of_a_bad_resource_too() -> None:
    world = World()
    run_until("train")(world)
    world.edit({"training": {"extraArgs": {"output_dir": "/"}}})
    assert watched_jobs(world.resource)


def test_a_refresh_of_any_length_is_no_trouble() -> None:
    world = World()
    world.annotate(REFRESH_ANNOTATION, "x" * 100_000)
    assert world.run_to_end().stage == "Complete"


def test_attempts_are_counted_up_to_a_bound() -> None:
    world = World()
    world.settle()
    job = world.active()
    assert job is not None
    world.jobs[job.name] = replace(job, attempt=5000)
    world.fail(Reason.CREDENTIALS_INVALID)
    world.reconcile()
    assert stage_status(world.status, "download").attempts == 1000


@pytest.mark.parametrize(
    ("attempt", "folder"),
    [
        pytest.param(2, "40/2", id="an attempt has a folder of its own"),
        pytest.param(None, "40", id="a stage of an older version does not tell its attempt"),
    ],
)
def test_the_status_says_where_the_newest_checkpoint_is(attempt: int | None, folder: str) -> None:
    world = World()
    run_until("train")(world)
    job = world.active()
    assert job is not None
    told = Progress(
        stage="train", activity="training", done=41, checkpoint_step=40, checkpoint_attempt=attempt
    )
    world.progress = {job.name: told}
    world.reconcile()
    saved = world.status.checkpoint
    assert saved is not None
    training = f"{world.resource.spec.storage.uri}/trainings/{stage_status(world.status, 'train').key}"
    assert (saved.step, saved.uri) == (40, f"{training}/checkpoints/{folder}")


def test_what_a_training_costs_is_told_with_its_checkpoints() -> None:
    world = World()
    run_until("train")(world)
    job = world.active()
    assert job is not None
    cost = GpuSeconds(held=90, training=60, evaluating=10)
    saved = Progress(stage="train", checkpoint_step=40, gpu_seconds=cost)
    for told in (saved, saved.model_copy(update={"gpu_seconds": None})):
        world.progress = {job.name: told}
        world.reconcile()
        assert world.status.gpu_seconds == cost


EDITS: dict[str, tuple[list[Step], bool]] = {
    "outputs of an earlier spec leave the status when another training begins": (
        [lambda w: w.edit({"training": {"learningRate": "2e-4"}}), run_until("train")],
        False,
    ),
    "they stay while that is not so far": (
        [lambda w: w.edit({"training": {"learningRate": "2e-4"}}), run_until("prepare")],
        True,
    ),
    "they stay where the new spec is refused before any Job": (
        [lambda w: w.edit({"training": {"extraArgs": {"output_dir": "/"}}}), World.settle],
        True,
    ),
    "they stay where its data is": (
        [
            lambda w: w.edit({"datasets": [{"source": "s3://data/other.json"}]}),
            run_until("prepare"),
            lambda w: w.fail(Reason.DATASET_INVALID),
            World.settle,
        ],
        True,
    ),
}


@pytest.mark.parametrize("sentence", EDITS)
def test_edits_of_what_is_complete(sentence: str) -> None:
    steps, stay = EDITS[sentence]
    world = World({"export": {"merged": {}}})
    made = outputs(world.run_to_end())
    for step in steps:
        step(world)
    (ready,) = [each for each in world.status.conditions if each.type == "Ready"]
    assert all(made[:3])
    assert outputs(world.status) == (made if stay else (None, None, None, None))
    assert (ready.status, ready.observed_generation) == ("False", world.resource.metadata.generation)


def outputs(status: LoRAFineTuneStatus) -> tuple[Any, ...]:
    return (status.artifacts, status.loss, status.training, status.checkpoint)


def test_what_is_leaving_is_looked_at_again_for_a_lost_node_tells_nobody() -> None:
    world = World()
    world.settle()
    world.edit({"suspend": True})
    world.reconcile()
    assert world.reconcile().check_again == timedelta(seconds=30)


def test_jobs_get_their_time_to_live_only_once_the_status_has_their_results() -> None:
    world = World({"ttlSecondsAfterFinished": 600})
    run_until("export")(world)
    assert not any(job.has_ttl for job in world.jobs.values())
    world.run_to_end()
    world.reconcile()
    assert all(job.has_ttl for job in world.jobs.values())
    assert world.reconcile().patch == ()


def test_what_prepare_warned_of_stands_in_validated() -> None:
    world = World()
    run_until("prepare")(world)
    warned = world.result("prepare")
    assert isinstance(warned, PrepareResult)
    world.end(warned.model_copy(update={"warnings": ("rows.json: 3 rows are cut", "seed is 0")}))
    world.settle()
    validated = next(c for c in world.status.conditions if c.type == "Validated")
    said = "90 rows to learn from; rows.json: 3 rows are cut; seed is 0"
    assert (validated.status, validated.reason, validated.message) == ("True", "Warnings", said)


def test_what_an_export_warns_of_stands_in_its_stage() -> None:
    world = World()
    run_until("export")(world)
    warned = world.result("export")
    assert isinstance(warned, ExportResult)
    world.end(warned.model_copy(update={"warnings": ("merged whole", "by another")}))
    assert stage_status(world.settle(), "export").message == "merged whole; by another"


@pytest.mark.parametrize(
    ("evaluating", "evaluation"),
    [
        pytest.param(0, "", id="without evaluations"),
        pytest.param(48, " and 8% of the time in evaluations", id="with some"),
    ],
)
def test_what_the_training_will_take_is_said_before_it_begins(evaluating: int, evaluation: str) -> None:
    world = World()
    run_until("prepare")(world)
    estimate = Estimate(
        steps=30, seconds=600, evaluating_seconds=evaluating, gpu_memory=20 * 2**30, disk=2**30
    )
    prepared = world.result("prepare")
    assert isinstance(prepared, PrepareResult)
    world.end(prepared.model_copy(update={"estimate": estimate}))
    world.settle()
    validated = next(c for c in world.status.conditions if c.type == "Validated")
    said = (
        f"90 rows to learn from; about 30 steps in 10m0s{evaluation}, 20.0 GiB of GPU memory, 1.0 GiB of disk"
    )
    assert (validated.reason, validated.message) == ("Validated", said)
    assert world.status.estimate == estimate


def test_what_is_refused_on_a_cpu_is_not_validated() -> None:
    world = World()
    run_until("prepare")(world)
    world.fail(Reason.DATASET_INVALID, "rows.json:7: output: is empty")
    world.settle()
    validated = next(c for c in world.status.conditions if c.type == "Validated")
    said = "rows.json:7: output: is empty"
    assert (validated.status, validated.reason, validated.message) == ("False", "DatasetInvalid", said)

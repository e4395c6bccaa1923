"""The plan, as a table of situations and a property over random histories."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import REFRESH_ANNOTATION
from lorafinetune.api.status import LoRAFineTuneStatus, StageName, TrainingStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress, StageError
from lorafinetune.core.steps import stage_status
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
        {"Reconciling"},
        ["download", "prepare", "train"],
    ),
    "a run in which all goes well is complete": ([done], "Complete", {"Ready", "Complete"}, list(STAGES)),
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
        {"Reconciling"},
        ["download", "prepare", *["train"] * 10],
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
        {"Ready", "Complete"},
        ["download", "prepare", "train", "prepare", "export"],
    ),
    "a training that the store has already is not run": (
        [done, lambda w: fresh(w), done],
        "Complete",
        {"Ready", "Complete"},
        [*STAGES, "download", "prepare", "export"],
    ),
    "suspend stops the running stage and stays": (
        [run_until("train"), lambda w: w.edit({"suspend": True}), World.settle],
        "Suspended",
        {"Suspended"},
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
        {"Ready", "Complete"},
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
        {"Ready", "Complete"},
        list(STAGES),
    ),
    "an edit of the export re-runs the export alone": (
        [done, lambda w: w.edit({"export": {"merged": {"maxShardSize": "1GB"}}}), done],
        "Complete",
        {"Ready", "Complete"},
        [*STAGES, "export"],
    ),
    "an edit of the learning rate re-runs from prepare, which makes the new key": (
        [done, lambda w: w.edit({"training": {"learningRate": "2e-4"}}), done],
        "Complete",
        {"Ready", "Complete"},
        [*STAGES, "prepare", "train", "export"],
    ),
    "an edit that changes the key stops the running training": (
        [run_until("train"), lambda w: w.edit({"training": {"learningRate": "2e-4"}}), done],
        "Complete",
        {"Ready", "Complete"},
        ["download", "prepare", "train", "prepare", "train", "export"],
    ),
    "an edit that does not change the key lets the training go on": (
        [run_until("train"), lambda w: w.edit({"training": {"checkpoint": {"keep": 5}}}), done],
        "Complete",
        {"Ready", "Complete"},
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
        {"Ready", "Complete"},
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
        {"Ready", "Complete"},
        ["download", *STAGES],
    ),
    "a new value of the refresh annotation resolves revisions anew": (
        [done, lambda w: w.edit({}, annotations={REFRESH_ANNOTATION: "2"}), done],
        "Complete",
        {"Ready", "Complete"},
        [*STAGES, "download"],
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
        {"Reconciling"},
        ["download", "prepare", "train"],
    ),
}


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


def test_progress_of_the_running_job_is_shown() -> None:
    world = World()
    run_until("train")(world)
    job = world.active()
    assert job is not None
    training = TrainingStatus(step=42, total_steps=100, loss="1.5")
    world.progress = {
        job.name: Progress(
            stage="train", activity="training", done=42, total=100, eta_seconds=5400, training=training
        )
    }
    world.reconcile()
    status = world.status
    assert (status.progress, status.eta, status.loss, status.training) == ("42%", "1h30m", "1.5", training)


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
        ("StageComplete", "prepare is complete"),
        ("StageStarted", f"train began as Job {job['train']}"),
        ("StageComplete", "train is complete"),
        ("StageStarted", f"export began as Job {job['export']}"),
        ("StageComplete", "export is complete"),
        ("Complete", "all stages are complete"),
    ]


def if_active(step: Step) -> Step:
    return lambda world: step(world) if world.active() else None


MISHAPS: dict[str, Step] = {
    "the stage fails and may pass": if_active(lambda w: w.fail(Reason.STORAGE_UNAVAILABLE)),
    "the stage is preempted": if_active(lambda w: w.fail(Reason.PREEMPTED)),
    "the stage ends, and its words are lost": if_active(lambda w: w.end(None)),
    "the stage succeeds": if_active(lambda w: w.succeed()),
    "the Job vanishes": lambda w: (job := w.active()) and w.jobs.pop(job.name),
    "every Job vanishes": lambda w: w.jobs.clear(),
    "the operator restarts": lambda w: w.reconcile(),
    "a wake-up is repeated": lambda w: [w.reconcile() for _ in range(3)],
    "leaving Jobs are gone": lambda w: w.leave(),
    "the status is lost": lambda w: fresh_status(w),
    "time passes": lambda w: w.settle(),
    "it is suspended": lambda w: w.edit({"suspend": True}),
    "it is resumed": lambda w: w.edit({"suspend": False}),
    "the learning rate is edited": lambda w: w.edit({"training": {"learningRate": "3e-4"}}),
    "the rank is edited": lambda w: w.edit({"training": {"lora": {"rank": 16}}}),
    "the node selector is edited": lambda w: w.edit({"scheduling": {"nodeSelector": {"a": "b"}}}),
}


def fresh_status(world: World) -> None:
    world.resource = world.resource.model_copy(update={"status": None})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(MISHAPS)), max_size=25))
def test_whatever_happens_the_end_is_that_of_a_run_in_which_nothing_did(history: list[str]) -> None:
    world = World({"maxRetries": 100})
    for sentence in history:
        MISHAPS[sentence](world)
        world.reconcile()
        assert len([job for job in world.jobs.values() if job.state == "active"]) <= 1
    world.edit({"suspend": False})
    end = world.run_to_end()

    calm = World(world.resource.spec.encode())
    assert summary(end) == summary(calm.run_to_end())


def summary(status: LoRAFineTuneStatus) -> tuple[Any, ...]:
    """What must not depend on the history."""
    stages = [(s.name, s.state, s.key, s.inputs) for s in status.stages]
    return (status.stage, conditions(status), stages, status.artifacts, status.model, status.dataset)

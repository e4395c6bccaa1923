"""The plan, as a property over random histories: whatever happens, the end is the same."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorafinetune.api.reasons import Reason, Retry
from lorafinetune.api.resource import REFRESH_ANNOTATION
from lorafinetune.api.status import LoRAFineTuneStatus, TrainingStatus
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.observed import ObservedJob
from lorafinetune.core.steps import watched_jobs
from searching import examples
from unit.test_plan import Step, conditions, run_until
from unit.world import World


def if_active(step: Step) -> Step:
    return lambda world: step(world) if world.active() else None


def edit(**changes: Any) -> Step:
    return lambda world: world.edit(changes)


def training(world: World) -> bool:
    job = world.active()
    return job is not None and job.stage == "train"


def the_other_ends(world: World, state: Literal["complete", "failed"]) -> None:
    world.others = {n: replace(job, state=state, ended=world.now) for n, job in world.others.items()}


def restart(world: World) -> None:
    """An operator remembers nothing that is not in the cluster."""
    world.progress, world.known = {}, {}


def die(world: World) -> None:
    """The operator dies after it has deleted and created, before it writes the status."""
    before = world.resource
    world.reconcile()
    world.resource = before
    restart(world)


def fresh_status(world: World) -> None:
    world.resource = world.resource.model_copy(update={"status": None})


def block(world: World, answer: str | None) -> None:
    """None of the Jobs that would be made next can be made."""
    there = {*world.jobs, *world.others}
    world.blocked = dict.fromkeys(sorted(watched_jobs(world.resource) - there), answer)


def unblock(world: World) -> None:
    """Some time later, so that it was tried again."""
    world.blocked, world.known = {}, {}


def succeed_unseen(world: World) -> None:
    """The stage succeeds, and one more look sees what was there before."""
    before = dict(world.jobs)
    world.succeed()
    ended, world.jobs = world.jobs, before
    world.reconcile()
    world.jobs = {name: _newer(job, ended.get(name)) for name, job in world.jobs.items()}


def _newer(job: ObservedJob, ended: ObservedJob | None) -> ObservedJob:
    return replace(ended, state=job.state if job.state == "leaving" else ended.state) if ended else job


def tell_progress(world: World) -> None:
    job = world.active()
    assert job is not None
    told = TrainingStatus(step=3, total_steps=30, loss="2.0") if job.stage == "train" else None
    world.progress = {job.name: Progress(stage=job.stage, done=3, total=30, training=told)}


def queue(world: World, before: Literal["queued", "active"], after: Literal["queued", "active"]) -> None:
    """The queue lets a training go, or takes it back."""
    if world.resource.spec.scheduling.queue_name:
        world.jobs = {
            name: replace(job, state=after) if (job.stage, job.state) == ("train", before) else job
            for name, job in world.jobs.items()
        }


def time_passes(world: World) -> None:
    """Until nothing changes any more, or for a while where something is in the way."""
    if not world.blocked and not any(world.left_behind.values()):
        world.settle()
        return
    for _ in range(3):
        world.leave()
        world.known = {}
        world.now += world.reconcile().check_again or timedelta(0)


MISHAPS: dict[str, Step] = {
    "the stage fails and may pass": if_active(lambda w: w.fail(Reason.STORAGE_UNAVAILABLE)),
    "the stage fails after a checkpoint": if_active(lambda w: w.fail(Reason.RANK_LOST, checkpoint=3)),
    "the stage is preempted": if_active(lambda w: w.fail(Reason.PREEMPTED)),
    "the stage ends, and its words are lost": if_active(lambda w: w.end(None)),
    "the stage succeeds": if_active(lambda w: w.succeed()),
    "the stage succeeds, which is seen late": if_active(succeed_unseen),
    "the stage tells its progress": if_active(tell_progress),
    "the image is gone": if_active(lambda w: w.trouble(Reason.IMAGE_PULL)),
    "the operator is upgraded": lambda w: w.install(str(len(w.created))),
    "the pod is in trouble": if_active(lambda w: w.trouble(Reason.UNSCHEDULABLE)),
    "the pod is evicted": if_active(lambda w: w.trouble(Reason.PREEMPTED)),
    "the trouble is over": if_active(lambda w: w.trouble(None)),
    "the training turns out to be another's": lambda w: w.hand_over() if training(w) else None,
    "the other's training fails": lambda w: the_other_ends(w, "failed"),
    "the other's training is done": lambda w: the_other_ends(w, "complete"),
    "the stage fails for good": if_active(lambda w: w.fail(Reason.CONFIG_INVALID)),
    "an output is damaged": if_active(lambda w: w.fail(Reason.ARTIFACT_CORRUPT)),
    "revisions are to be resolved anew": lambda w: w.annotate(REFRESH_ANNOTATION, str(len(w.created))),
    "the Job vanishes": if_active(World.vanish),
    "a pod outlives its Job": if_active(lambda w: w.vanish(pods=1)),
    "the pod that outlived its Job ends": lambda w: w.left_behind.clear(),
    "every Job vanishes": lambda w: w.jobs.clear(),
    "a stranger takes the name": lambda w: block(w, None),
    "the Job is refused": lambda w: block(w, "exceeded quota: jobs"),
    "the name is free, and nothing is refused": unblock,
    "the operator restarts": restart,
    "the operator dies before it writes the status": die,
    "a wake-up is repeated": lambda w: [w.reconcile() for _ in range(3)],
    "leaving Jobs are gone": lambda w: w.leave(),
    "the status is lost": fresh_status,
    "time passes": time_passes,
    "it is suspended": edit(suspend=True),
    "it is resumed": edit(suspend=False),
    "the revision is edited": edit(model={"revision": "v2"}),
    "the cutoff is edited": edit(training={"cutoffLength": 1024}),
    "the learning rate is edited": edit(training={"learningRate": "3e-4"}),
    "the rank is edited": edit(training={"lora": {"rank": 16}}),
    "the size of the shards is edited": edit(export={"merged": {"maxShardSize": "1GB"}}),
    "a target is added": edit(export={"merged": {}, "publish": [{"to": "s3://models/a"}]}),
    "a tracker is added": edit(export={"merged": {}, "trackers": [{"name": "tensorboard"}]}),
    "a gate is set, and passed": edit(training={"evaluation": {"gate": {"mustImproveBy": "0.4"}}}),
    "a gate is set, and not passed": edit(training={"evaluation": {"gate": {"mustImproveBy": "0.5"}}}),
    "the gate is removed": edit(training={"evaluation": {"gate": None}}),
    "the node selector is edited": edit(scheduling={"nodeSelector": {"a": "b"}}),
    "a queue is named": edit(scheduling={"queueName": "gpus"}),
    "the queue lets the training go": lambda w: queue(w, "queued", "active"),
    "the queue takes the training back": lambda w: queue(w, "active", "queued"),
}


PASSING = sorted(reason for reason in Reason if reason.facts.retry is Retry.BACKOFF)
MISHAPS_OF_OPERATOR = ("the operator restarts", "the operator is upgraded", "a wake-up is repeated")


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.tuples(st.sampled_from(PASSING), st.integers(0, 3), st.sampled_from(MISHAPS_OF_OPERATOR)),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 3),
)
def test_a_training_fails_by_what_may_pass_once_more_attempts_than_max_retries_came_no_further(
    attempts: list[tuple[Reason, int, str]], retries: int
) -> None:
    world = World({"maxRetries": retries})
    run_until("train")(world)
    furthest, stuck = 0, 0
    for reason, further, mishap in attempts:
        stuck += further == 0
        furthest += further
        world.fail(reason, checkpoint=furthest or None)
        MISHAPS[mishap](world)
        world.settle()
        if stuck > retries:
            break
        run_until("train")(world)
        assert training(world)
    assert (world.status.stage == "Failed") == (stuck > retries)


@settings(max_examples=examples(60))
@given(st.lists(st.sampled_from(sorted(MISHAPS)), max_size=25))
@example(["the operator restarts", "the stage succeeds", "a pod outlives its Job", "the status is lost"])
def test_whatever_happens_the_end_is_that_of_a_run_in_which_nothing_did(history: list[str]) -> None:
    world = World({"maxRetries": 100, "training": {"evaluation": {"fraction": "0.1"}}})
    for sentence in history:
        MISHAPS[sentence](world)
        world.reconcile()
        assert_told_truly(world)
    world.others, world.left_behind = {}, {}
    unblock(world)
    no_gate = {"evaluation": {"gate": None}}
    world.edit({"suspend": False, "scheduling": {"queueName": None}, "training": no_gate})
    end = world.run_to_end()

    calm = World(world.resource.spec.encode())
    for name, value in world.resource.metadata.annotations.items():
        calm.annotate(name, value)
    assert summary(end) == summary(calm.run_to_end())


def assert_told_truly(world: World) -> None:
    """One Job of a stage at most runs, and none beside it but the download of a refresh; none once the run
    has ended or is said to be suspended. Everything is said of the generation that is there, an end too."""
    generation = world.resource.metadata.generation
    spoken_of = {condition.observed_generation for condition in world.status.conditions}
    assert spoken_of | {world.status.observed_generation} == {generation}
    ends = conditions(world.status) & {"Complete", "Failed", "Suspended"}
    assert ends == {world.status.stage} & {"Complete", "Failed", "Suspended"}
    states = [job.state for job in world.jobs.values()]
    active = [job.stage for job in world.jobs.values() if job.state == "active"]
    assert len(active) == len(set(active)) <= 1 + ("download" in active)
    if world.status.stage in ("Complete", "Failed"):
        assert not {"queued", "active"} & set(states)
    if world.status.stage == "Suspended":
        assert not {"queued", "active", "leaving"} & set(states)


def summary(status: LoRAFineTuneStatus) -> tuple[Any, ...]:
    """What must not depend on the history."""
    stages = [(s.name, s.state, s.key, s.inputs) for s in status.stages]
    results = (status.artifacts, status.model, status.dataset, status.training, status.loss, status.failure)
    return (status.stage, conditions(status), stages, results)

"""What Prometheus is told: each thing once, and each metric as the documentation says it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import NOW, resource
from lorafinetune.api.status import (
    Condition,
    GpuSeconds,
    LoRAFineTuneStatus,
    StageStatus,
    TrainingStatus,
)
from lorafinetune.contract.outcome import Progress
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.observed import STAGE_LABEL
from lorafinetune.shell.client import ApiError
from lorafinetune.shell.gpu_time import GpuTimeCounter
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.liveness import WATCHED, WatchLiveness
from lorafinetune.shell.metric_declarations import DECLARED, Declaration
from lorafinetune.shell.metrics import Metrics, Runs
from lorafinetune.shell.paths import Call
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.queue import WorkQueue
from lorafinetune.shell.queue_time import QueueTimeCounter
from lorafinetune.shell.workers import work
from unit.shell_objects import job, pod, stored
from unit.test_shell_queue import Clock

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
TUNE: Key = ("team-a", "tune")
SPENT = GpuSeconds(held=100, training=80, evaluating=5)


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.name)
def test_the_documentation_says_of_a_metric_what_its_declaration_says(declared: Declaration) -> None:
    labels = ", ".join(f"`{label}`" for label in declared.labels) or "–"
    assert f"\n| `{declared.name}` | {labels} | {declared.meaning} |\n" in PAGE


def test_every_metric_is_declared_in_the_table() -> None:
    metrics = Metrics()
    metrics.registry.register(runs(Index()))
    own = {family.name for family in metrics.registry.collect() if family.name.startswith("lorafinetune")}
    assert own == {declared.name.removesuffix("_total") for declared in DECLARED}


def runs(index: Index, depth: Callable[[], int] = lambda: 0) -> Runs:
    return Runs(index, depth, ProgressMemory(Clock()), WatchLiveness([None], Clock()))


def training(**changes: Any) -> StageStatus:
    start, end = rfc3339(NOW), rfc3339(NOW + timedelta(seconds=100))
    done = StageStatus(name="train", state="Complete", start_time=start, completion_time=end)
    return done.model_copy(update=changes)


def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_stage_is_counted_once_when_the_status_says_that_it_is_complete() -> None:
    metrics, before = Metrics(), resource()
    after = LoRAFineTuneStatus(stages=(training(),), gpu_seconds=SPENT)
    metrics.record_status(before, after)
    metrics.record_status(before.model_copy(update={"status": after}), after)
    assert read(metrics, "lorafinetune_stage_duration_seconds_sum", stage="train", cache_hit="false") == 100
    assert read(metrics, "lorafinetune_gpu_seconds_total", use="training") == 80
    assert read(metrics, "lorafinetune_gpu_seconds_total", use="evaluating") == 5


def test_a_training_costs_no_more_than_it_tells_in_the_end() -> None:
    metrics, before = Metrics(), resource()
    for spent in (GpuSeconds(held=50, training=40), SPENT, SPENT):
        after = LoRAFineTuneStatus(stages=(training(),), gpu_seconds=spent)
        metrics.record_status(before, after)
        before = before.model_copy(update={"status": after})
    assert read(metrics, "lorafinetune_gpu_seconds_total", use="training") == SPENT.training


def test_a_training_that_was_found_in_the_store_costs_nothing_again() -> None:
    metrics = Metrics()
    after = LoRAFineTuneStatus(stages=(training(cache_hit=True),), gpu_seconds=SPENT)
    metrics.record_status(resource(), after)
    assert read(metrics, "lorafinetune_gpu_seconds_total", use="training") == 0
    assert read(metrics, "lorafinetune_stage_duration_seconds_count", stage="train", cache_hit="true") == 1


def test_a_run_is_counted_once_when_it_ends() -> None:
    metrics, before = Metrics(), resource()
    ready = Condition(
        type="Ready", status="False", reason="DatasetInvalid", last_transition_time=rfc3339(NOW)
    )
    failed = ready.model_copy(update={"type": "Failed", "status": "True"})
    after = LoRAFineTuneStatus(conditions=(ready, failed))
    metrics.record_status(before, after)
    metrics.record_status(before.model_copy(update={"status": after}), after)
    assert read(metrics, "lorafinetune_runs_ended_total", state="Failed", reason="DatasetInvalid") == 1


ZERO: dict[str, dict[str, str]] = {
    "runs that failed for a reason": {"name": "runs_ended", "state": "Failed", "reason": "StorageFull"},
    "runs that are done": {"name": "runs_ended", "state": "Complete", "reason": "Complete"},
    "looks that failed": {"name": "reconcile_errors", "kind": "bug"},
    "GPU time": {"name": "gpu_seconds", "use": "held"},
}


@pytest.mark.parametrize("sentence", ZERO)
def test_the_first_event_is_an_increase_of(sentence: str) -> None:
    labels = dict(ZERO[sentence])
    assert read(Metrics(), f"lorafinetune_{labels.pop('name')}_total", **labels) == 0


def test_a_training_tells_its_pace_and_how_long_ago() -> None:
    metrics, clock = Metrics(), Clock()
    memory = ProgressMemory(clock)
    metrics.registry.register(Runs(Index(), lambda: 0, memory, WatchLiveness([None], clock)))
    memory.accept(("team-a", "copying"), Progress(stage="train"))
    memory.accept(("team-a", "job"), Progress(stage="train", training=TrainingStatus(tokens_per_second=900)))
    clock.now += 60
    job = {"namespace": "team-a", "job_name": "job"}
    assert read(metrics, "lorafinetune_training_tokens_per_second", **job) == 900
    assert read(metrics, "lorafinetune_progress_age_seconds", **job) == 60
    assert read(metrics, "lorafinetune_training_tokens_per_second", **job | {"job_name": "copying"}) is None


def test_a_kind_is_watched_as_well_as_in_its_worst_namespace() -> None:
    metrics, clock = Metrics(), Clock()
    liveness = WatchLiveness(["team-a", "team-b"], clock)
    metrics.registry.register(Runs(Index(), lambda: 0, ProgressMemory(clock), liveness))
    clock.now += 90
    for plural, namespace in (("jobs", "team-a"), ("jobs", "team-b"), ("pods", "team-a")):
        liveness.record(Call("watch", plural, namespace), 200)
    clock.now += 30
    ages = {plural: read(metrics, "lorafinetune_watch_age_seconds", resource=plural) for plural in WATCHED}
    assert ages == {"lorafinetunes": 120, "jobs": 30, "pods": 120, "events": 120}


def test_the_depth_of_the_queue_is_what_is_due_now() -> None:
    metrics, clock = Metrics(), Clock()
    queue: WorkQueue[Key] = WorkQueue(clock)
    metrics.registry.register(runs(Index(), queue.depth))
    queue.add(TUNE)
    queue.add(("team-a", "later"), after=60)
    assert read(metrics, "lorafinetune_queue_depth") == 1


ERRORS: dict[str, tuple[Exception, str]] = {
    "changed, where another was there first": (ApiError(409, "Conflict", "it was modified"), "changed"),
    "changed, where the resource is gone": (ApiError(404, "NotFound", "not found"), "changed"),
    "of the API, where that can't answer": (ApiError(500, "InternalError", "not now"), "api"),
    "a bug, whatever else is raised": (ValueError("a slip"), "bug"),
}


@pytest.mark.parametrize("sentence", ERRORS)
def test_a_look_that_failed_is_counted_as(sentence: str) -> None:
    problem, kind = ERRORS[sentence]
    metrics = Metrics()

    async def fail() -> None:
        queue: WorkQueue[Key] = WorkQueue(asyncio.get_running_loop().time)
        looked = asyncio.Event()

        async def look(_: Key) -> float | None:
            looked.set()
            raise problem

        working = asyncio.create_task(work(queue, look, metrics))
        queue.add(TUNE)
        await looked.wait()
        await asyncio.sleep(0)
        working.cancel()

    asyncio.run(fail())
    assert read(metrics, "lorafinetune_reconcile_errors_total", kind=kind) == 1


def trained(phase: str = "Failed", began: int = 0, ended: int = 60, **changes: Any) -> dict[str, Any]:
    """The Pod of a training. began, ended: in seconds after NOW."""
    times = {"startedAt": _at(began), "finishedAt": _at(ended)}
    container = {"name": "train", "state": {"terminated": {"exitCode": 85} | times}}
    made: dict[str, Any] = {
        "metadata": {
            "labels": {STAGE_LABEL: "train"},
            "ownerReferences": pod()["metadata"]["ownerReferences"],
        },
        "status": {"phase": phase, "containerStatuses": [container]},
    }
    return pod(**(made | changes))


def _at(seconds: int) -> str:
    return rfc3339(NOW + timedelta(seconds=seconds))


def started(begun: int | None = 30, uid: str = "uid-job", stage: str = "train") -> dict[str, Any]:
    """A Job that was made 10 seconds after NOW. begun: in seconds after NOW."""
    metadata = {"creationTimestamp": _at(10), "uid": uid, "labels": {STAGE_LABEL: stage}}
    return job(metadata=metadata, status={} if begun is None else {"startTime": _at(begun)})


WAITED: dict[str, tuple[list[dict[str, Any]], list[float]]] = {
    "from its creation to its start": ([started(None), started()], [20]),
    "once, however often it is shown": ([started(), started(), started()], [20]),
    "for each attempt": ([started(), started(40, "2")], [20, 30]),
    "where this process has seen it start": ([started(-1)], []),
    "and no other stage does": ([started(stage="export")], []),
    "and no Job of a stranger": ([started() | {"spec": {}, "metadata": {"name": "a"}}], []),
}


@pytest.mark.parametrize("sentence", WAITED)
def test_a_training_waits(sentence: str) -> None:
    jobs, seconds = WAITED[sentence]
    told: list[float] = []
    queue_time = QueueTimeCounter(NOW, told.append)
    for each in jobs:
        queue_time.observe(each)
    assert told == seconds


def with_gpus(count: int) -> dict[str, Any]:
    return {"spec": {"resources": {"train": {"gpu": {"count": count}}}}}


HELD: dict[str, tuple[dict[str, Any], list[dict[str, Any]], float]] = {
    "a training that was done": ({}, [trained("Succeeded")], 60),
    "one that failed, was stopped or was preempted": ({}, [trained("Failed")], 60),
    "one that is shown again and again, once": ({}, [trained(), trained(), trained()], 60),
    "every attempt": ({}, [trained(), trained(metadata={**trained()["metadata"], "uid": "2"})], 120),
    "none of which it is not known when it ended": ({}, [pod(metadata=trained()["metadata"])], 0),
    "none that goes on": ({}, [trained("Running")], 0),
    "none on the CPU": (with_gpus(0), [trained()], 0),
    "several GPUs": (with_gpus(4), [trained()], 240),
    "none that another process has seen end": ({}, [trained(began=-9, ended=-1)], 0),
    "what an earlier process saw begin": ({}, [trained(began=-100, ended=20)], 120),
    "no other stage": ({}, [pod(metadata={"labels": {STAGE_LABEL: "export"}})], 0),
    "none of a Job that nobody has seen": (
        {},
        [trained(metadata={**trained()["metadata"], "ownerReferences": []})],
        0,
    ),
}


@pytest.mark.parametrize("sentence", HELD)
def test_gpus_are_held_by(sentence: str) -> None:
    changes, pods, seconds = HELD[sentence]
    index, told = Index(), [0.0]
    index.resources.put(stored(**changes))
    index.jobs.put(job())
    gpu_time = GpuTimeCounter(index, NOW, told.append)
    for each in pods:
        gpu_time.observe(each)
    assert sum(told) == seconds


def test_gpus_are_held_by_a_pod_that_is_told_of_after_its_job_is_gone() -> None:
    index, told = Index(), [0.0]
    index.resources.put(stored())
    index.jobs.put(job())
    index.jobs.drop("team-a", "job", "uid-job")
    GpuTimeCounter(index, datetime(2026, 1, 1, tzinfo=UTC), told.append).observe(trained())
    assert sum(told) == 60

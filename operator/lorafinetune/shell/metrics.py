"""What Prometheus reads. What a run did is counted when its status is written, so nothing counts twice."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import GpuSeconds, LoRAFineTuneStatus, StageStatus
from lorafinetune.core.steps import stage_status
from lorafinetune.shell import declared
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.paths import Call
from lorafinetune.shell.states import state_of
from lorafinetune.shell.trimming import Object


class Metrics:
    """All counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.latency = declared.LATENCY.histogram(registry)
        self.errors = declared.ERRORS.counter(registry)
        self.calls = declared.CALLS.counter(registry)
        self.ended = declared.ENDED.counter(registry)
        self.stages = declared.STAGES.histogram(registry)
        self.queued = declared.QUEUED.histogram(registry)
        self.gpu_seconds = declared.GPU_SECONDS.counter(registry)
        self.refusals = declared.REFUSED.counter(registry)

    def called(self, call: Call, code: int) -> None:
        self.calls.labels(call.verb, call.plural, str(code)).inc()

    def refused(self, reason: str) -> None:
        self.refusals.labels(reason).inc()

    def held(self, seconds: float) -> None:
        """A Pod has ended that held GPUs so long."""
        self._used("held", seconds)

    def changed(self, resource: LoRAFineTune, after: LoRAFineTuneStatus, train_job: Object | None) -> None:
        """A status was written. train_job: the training's Job, if it is still there."""
        before = resource.status or LoRAFineTuneStatus()
        for stage in after.stages:
            if stage.state == "Complete" and stage_status(before, stage.name).state != "Complete":
                self._completed(stage, train_job)
        self._gpu_time(before, after)
        state, reason = state_of(after.encode())
        if state in ("Complete", "Failed") and state_of(before.encode()) != (state, reason):
            self.ended.labels(state, reason).inc()

    def _completed(self, stage: StageStatus, train_job: Object | None) -> None:
        took = _seconds(stage.start_time, stage.completion_time)
        if took is not None:
            self.stages.labels(stage.name, str(bool(stage.cache_hit)).lower()).observe(took)
        if stage.name == "train" and train_job:
            started = train_job.get("status", {}).get("startTime")
            waited = _seconds(train_job["metadata"].get("creationTimestamp"), started)
            if waited is not None:
                self.queued.observe(waited)

    def _gpu_time(self, before: LoRAFineTuneStatus, after: LoRAFineTuneStatus) -> None:
        """What the training says of itself. One that was found in the store was paid for when it was made."""
        if after.gpu_seconds is None or stage_status(after, "train").cache_hit:
            return
        used = before.gpu_seconds or GpuSeconds()
        self._used("training", after.gpu_seconds.training - used.training)
        self._used("evaluating", after.gpu_seconds.evaluating - used.evaluating)

    def _used(self, use: str, seconds: float) -> None:
        self.gpu_seconds.labels(use).inc(max(0, seconds))


class Runs(Collector):
    """What is counted anew each time that somebody asks."""

    def __init__(
        self, index: Index, depth: Callable[[], int], ages: Callable[[], Mapping[Key, float]]
    ) -> None:
        self._index = index
        self._depth = depth
        self._ages = ages

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        runs = declared.RUNS.gauge()
        for labels, count in self._index.resources.tally().items():
            runs.add_metric(labels, count)
        yield runs
        depth = declared.QUEUE_DEPTH.gauge()
        depth.add_metric((), self._depth())
        yield depth
        age = declared.PROGRESS_AGE.gauge()
        for job, seconds in self._ages().items():
            age.add_metric(job, seconds)
        yield age


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())

"""What Prometheus reads. What a run did is counted when its status is written, so nothing counts twice."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import GpuSeconds, LoRAFineTuneStatus, StageStatus
from lorafinetune.contract.times import moment
from lorafinetune.core.steps import stage_status
from lorafinetune.shell import metric_declarations
from lorafinetune.shell.index import Index
from lorafinetune.shell.liveness import WatchLiveness
from lorafinetune.shell.paths import Call
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.states import state_of

ERROR_KINDS: Final = ("changed", "api", "bug")
"""Whether another was there first, the API server did not answer as it should, or we are wrong."""


class Metrics:
    """All counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.latency = metric_declarations.LATENCY.histogram(registry)
        self.errors = metric_declarations.ERRORS.counter(registry)
        self.calls = metric_declarations.CALLS.counter(registry)
        self.ended = metric_declarations.ENDED.counter(registry)
        self.stages = metric_declarations.STAGES.histogram(registry)
        self.queued = metric_declarations.QUEUED.histogram(registry)
        self.gpu_seconds = metric_declarations.GPU_SECONDS.counter(registry)
        self.refusals = metric_declarations.REFUSED.counter(registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A counter that appears with its first event hides it: from nothing to 1 is no increase."""
        for reason in Reason:
            self.ended.labels("Failed", reason)
        self.ended.labels("Complete", "Complete")
        for kind in ERROR_KINDS:
            self.errors.labels(kind)
        for use in ("held", "training", "evaluating"):
            self.gpu_seconds.labels(use)

    def record_call(self, call: Call, code: int) -> None:
        self.calls.labels(call.verb, call.plural, str(code)).inc()

    def record_refusal(self, reason: str) -> None:
        self.refusals.labels(reason).inc()

    def record_held_gpus(self, seconds: float) -> None:
        """A Pod has ended that held GPUs so long."""
        self._used("held", seconds)

    def record_wait(self, seconds: float) -> None:
        """A training's Job has started that waited so long."""
        self.queued.observe(seconds)

    def record_status(self, resource: LoRAFineTune, after: LoRAFineTuneStatus) -> None:
        """A status was written."""
        before = resource.status or LoRAFineTuneStatus()
        for stage in after.stages:
            if stage.state == "Complete" and stage_status(before, stage.name).state != "Complete":
                self._completed(stage)
        self._gpu_time(before, after)
        state, reason = state_of(after.encode())
        if state in ("Complete", "Failed") and state_of(before.encode()) != (state, reason):
            self.ended.labels(state, reason).inc()

    def _completed(self, stage: StageStatus) -> None:
        took = _seconds(stage.start_time, stage.completion_time)
        if took is not None:
            self.stages.labels(stage.name, str(bool(stage.cache_hit)).lower()).observe(took)

    def _gpu_time(self, before: LoRAFineTuneStatus, after: LoRAFineTuneStatus) -> None:
        """What the training says of itself, with each checkpoint and at its end. One that was found in the
        store was paid for when it was made."""
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
        self, index: Index, depth: Callable[[], int], progress: ProgressMemory, liveness: WatchLiveness
    ) -> None:
        self._index = index
        self._depth = depth
        self._progress = progress
        self._liveness = liveness

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield _gauge(metric_declarations.RUNS, self._index.resources.tally().items())
        yield _gauge(metric_declarations.QUEUE_DEPTH, [((), self._depth())])
        yield _gauge(metric_declarations.PROGRESS_AGE, self._progress.ages().items())
        yield _gauge(metric_declarations.TOKENS, self._progress.tokens_per_second().items())
        yield _gauge(metric_declarations.WATCH_AGE, self._liveness.longest().items())


def _gauge(
    declaration: metric_declarations.Declaration, values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """values: each with its labels, in the order in which they are declared."""
    made = declaration.gauge()
    for labels, value in values:
        made.add_metric(labels, value)
    return made


def _seconds(start: str | None, end: str | None) -> float | None:
    began, ended = moment(start), moment(end)
    return max(0.0, (ended - began).total_seconds()) if began and ended else None

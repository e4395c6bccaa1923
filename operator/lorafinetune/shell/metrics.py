"""What Prometheus reads. What a run did is counted when its status is written, so nothing counts twice."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageStatus
from lorafinetune.core.steps import stage_status
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.paths import Call
from lorafinetune.shell.states import state_of
from lorafinetune.shell.trimming import Object

LATENCIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DURATIONS: Final = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)


class Metrics:
    """All counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.latency = Histogram(
            "lorafinetune_reconcile_latency_seconds",
            "From the time when a run was to be looked at to the end of the look.",
            buckets=LATENCIES,
            registry=registry,
        )
        self.errors = Counter(
            "lorafinetune_reconcile_errors", "Looks that failed, by kind.", ["kind"], registry=registry
        )
        self.calls = Counter(
            "lorafinetune_api_calls",
            "Requests to the API server; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.ended = Counter(
            "lorafinetune_runs_ended",
            "Runs that ended, by how and why.",
            ["state", "reason"],
            registry=registry,
        )
        self.stages = Histogram(
            "lorafinetune_stage_duration_seconds",
            "From the first attempt of a stage to its result.",
            ["stage", "cache_hit"],
            buckets=DURATIONS,
            registry=registry,
        )
        self.queued = Histogram(
            "lorafinetune_queue_wait_seconds",
            "From the creation of a training's Job to its start.",
            buckets=DURATIONS,
            registry=registry,
        )
        self.gpu_seconds = Counter(
            "lorafinetune_gpu_seconds", "GPU time, by use.", ["use"], registry=registry
        )
        self.refusals = Counter(
            "lorafinetune_progress_refused",
            "Posts of progress that were refused, by why.",
            ["reason"],
            registry=registry,
        )

    def called(self, call: Call, code: int) -> None:
        self.calls.labels(call.verb, call.plural, str(code)).inc()

    def refused(self, reason: str) -> None:
        self.refusals.labels(reason).inc()

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
        if after.gpu_seconds is None:
            return
        used: Mapping[str, int] = before.gpu_seconds.encode() if before.gpu_seconds else {}
        for use, seconds in after.gpu_seconds.encode().items():
            self.gpu_seconds.labels(use).inc(max(0, seconds - used.get(use, 0)))


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
        runs = GaugeMetricFamily(
            "lorafinetune_runs", "Runs, by state and reason.", labels=["state", "reason"]
        )
        for labels, count in self._index.resources.tally().items():
            runs.add_metric(labels, count)
        yield runs
        yield GaugeMetricFamily("lorafinetune_queue_depth", "Runs that wait to be looked at.", self._depth())
        age = GaugeMetricFamily(
            "lorafinetune_progress_age_seconds",
            "Since a running Job last told its progress.",
            labels=["namespace", "job"],
        )
        for job, seconds in self._ages().items():
            age.add_metric(job, seconds)
        yield age


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())

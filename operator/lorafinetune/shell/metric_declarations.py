"""The metrics by name: one declaration each, which `docs/operations.md` repeats word for word."""

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

LATENCIES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DURATIONS: Final = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)


@dataclass(frozen=True)
class Declaration:
    """One metric. name: as Prometheus shows it; a counter's ends in _total. buckets: of a histogram."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def counter(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.meaning, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(self.name, self.meaning, self.labels, registry=registry, buckets=self.buckets)

    def gauge(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.name, self.meaning, labels=self.labels)


RUNS: Final = Declaration("lorafinetune_runs", "Runs, by state and reason.", ("state", "reason"))
ENDED: Final = Declaration(
    "lorafinetune_runs_ended_total", "Runs that ended, by how and why.", ("state", "reason")
)
STAGES: Final = Declaration(
    "lorafinetune_stage_duration_seconds",
    "From the first attempt of a stage to its result.",
    ("stage", "cache_hit"),
    DURATIONS,
)
QUEUED: Final = Declaration(
    "lorafinetune_queue_wait_seconds",
    "From the creation of a training's Job to its start.",
    buckets=DURATIONS,
)
GPU_SECONDS: Final = Declaration(
    "lorafinetune_gpu_seconds_total",
    "GPU time, by use: held by trainings' Pods, once they end; of these, training and evaluating, "
    "up to the newest checkpoint or the training's end.",
    ("use",),
)
PROGRESS_AGE: Final = Declaration(
    "lorafinetune_progress_age_seconds",
    "Since a running Job last told its progress.",
    ("namespace", "job_name"),
)
TOKENS: Final = Declaration(
    "lorafinetune_training_tokens_per_second",
    "Useful tokens a second of a running training, as it last told them.",
    ("namespace", "job_name"),
)
REFUSED: Final = Declaration(
    "lorafinetune_progress_refused_total", "Posts of progress that were refused, by why.", ("reason",)
)
QUEUE_DEPTH: Final = Declaration("lorafinetune_queue_depth", "Runs that wait to be reconciled.")
LATENCY: Final = Declaration(
    "lorafinetune_reconcile_latency_seconds",
    "From the time when a run was to be reconciled to the end of that.",
    buckets=LATENCIES,
)
ERRORS: Final = Declaration(
    "lorafinetune_reconcile_errors_total", "Reconciles that failed, by kind.", ("kind",)
)
WATCH_AGE: Final = Declaration(
    "lorafinetune_watch_age_seconds",
    "Since the watch of a kind was last opened, which is every minute; of several namespaces, the longest.",
    ("resource",),
)
CALLS: Final = Declaration(
    "lorafinetune_api_calls_total",
    "Requests to the API server; code 0: no answer.",
    ("verb", "resource", "code"),
)

DECLARED: Final = (
    RUNS,
    ENDED,
    STAGES,
    QUEUED,
    GPU_SECONDS,
    PROGRESS_AGE,
    TOKENS,
    REFUSED,
    QUEUE_DEPTH,
    LATENCY,
    ERRORS,
    WATCH_AGE,
    CALLS,
)

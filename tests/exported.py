"""What an operator exports to which has happened all that is counted: from its own registry."""

from typing import Any

from prometheus_client.samples import Sample

from builders import NOW, resource
from lorafinetune.api.status import LoRAFineTuneStatus, StageStatus, TrainingStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress
from lorafinetune.contract.times import rfc3339
from lorafinetune.shell.index import Index
from lorafinetune.shell.liveness import WatchLiveness
from lorafinetune.shell.metrics import Metrics, Runs
from lorafinetune.shell.paths import Call
from lorafinetune.shell.progress import ProgressMemory
from unit.shell_objects import stored

STANDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "Queued": (("Queued",), {}),
    "StorageFull": ((), {"failure": {}}),
    "Train": ((), {}),
}
"""By reason, the conditions that hold, and what else is in the status."""
CALLS = (("create", "jobs", 201), ("update", "lorafinetunes/status", 409), ("watch", "pods", 200))


def samples() -> list[Sample]:
    """All that Prometheus would read."""
    metrics = Metrics()
    for is_hit in (False, True):
        metrics.record_status(
            resource(), LoRAFineTuneStatus(stages=tuple(_complete(stage, is_hit) for stage in STAGES))
        )
    for verb, plural, code in CALLS:
        metrics.record_call(Call(verb, plural), code)
    metrics.record_refusal("unauthenticated")
    metrics.registry.register(_runs())
    return [sample for family in metrics.registry.collect() for sample in family.samples]


def labels() -> dict[str, set[str]]:
    """The labels of each series, by its name."""
    found: dict[str, set[str]] = {}
    for sample in samples():
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _complete(stage: Any, is_hit: bool) -> StageStatus:
    at = rfc3339(NOW)
    return StageStatus(name=stage, state="Complete", start_time=at, completion_time=at, cache_hit=is_hit)


def _runs() -> Runs:
    """A run that is queued, one that waits, and one that trains."""
    index, progress = Index(), ProgressMemory(float)
    for reason, (holding, status) in STANDS.items():
        told = [{"type": "Ready", "status": "False", "reason": reason}]
        told += [{"type": kind, "status": "True", "reason": reason} for kind in holding]
        index.resources.put(stored(reason.lower(), status={"conditions": told} | status))
    progress.accept(("team-a", "job"), Progress(stage="train", training=TrainingStatus(tokens_per_second=9)))
    return Runs(index, lambda: 0, progress, WatchLiveness([None], float))

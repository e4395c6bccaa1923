"""Builders for tests: each makes a whole, valid thing, and takes only what the test is about."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lorafinetune.api import API_VERSION, KIND
from lorafinetune.api.artifacts import Artifact
from lorafinetune.api.codec import decode
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import DatasetStatus, ModelStatus, StageName, TrainingStatus
from lorafinetune.contract.keys import digest
from lorafinetune.contract.memory import ModelShape
from lorafinetune.contract.outcome import (
    DownloadResult,
    ExportResult,
    PrepareResult,
    Result,
    StageError,
    TrainResult,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)

SPEC: Mapping[str, Any] = {
    "connections": [{"name": "store", "endpoint": "http://s3.example:7070", "secretRef": {"name": "s3"}}],
    "model": {"source": "hf://owner/model", "connection": "store"},
    "datasets": [{"source": "s3://data/rows.json", "connection": "store"}],
    "training": {"epochs": "3"},
    "storage": {"uri": "s3://bucket/runs", "connection": "store"},
}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of `base` with `changes` laid over it; None removes a field."""
    result = dict(base)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
            result[name] = merged(result[name], value)
        else:
            result[name] = value
    return result


def document(spec: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A resource as YAML would give it, with the spec changed as `merged` does."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "tune", "namespace": "team-a", "uid": "uid-1"} | metadata,
        "spec": merged(SPEC, spec or {}),
    }


def resource(spec: Mapping[str, Any] | None = None, **metadata: Any) -> LoRAFineTune:
    """A decoded resource."""
    return decode(document(spec, **metadata))


def sha(name: str) -> str:
    """A sha256 that belongs to a name."""
    return digest(name)


def model(**changes: Any) -> ModelStatus:
    fields: dict[str, Any] = {
        "source": "hf://owner/model",
        "revision": "c0ffee",
        "digest": sha("model"),
        "bytes": 100,
    }
    return ModelStatus(**(fields | changes))


def artifact(name: str) -> Artifact:
    return Artifact(uri=f"s3://bucket/runs/{name}", digest=sha(name), bytes=10)


def result(stage: StageName, **changes: Any) -> Result:
    """What a stage reports when all is well."""
    return _RESULTS[stage].model_copy(update=changes)


_RESULTS: Mapping[StageName, Result] = {
    "download": DownloadResult(model=model(), datasets=(sha("rows"),)),
    "prepare": PrepareResult(
        key=sha("prepared"),
        template="smollm2",
        train_key=sha("training"),
        dataset=DatasetStatus(
            rows=90, eval_rows=10, tokens=900, learned_tokens=600, digest=sha("data"), report="s3://r"
        ),
    ),
    "train": TrainResult(
        key=sha("training"),
        adapter=artifact("adapter"),
        training=TrainingStatus(step=30, total_steps=30, loss="1.2", eval_loss="1.1", base_eval_loss="1.5"),
    ),
    "export": ExportResult(key=sha("exported"), merged=artifact("merged")),
}


def error(reason: Reason, message: str = "it went wrong") -> StageError:
    return StageError(reason, message)


def later(**delta: float) -> datetime:
    """NOW plus a time."""
    return NOW + timedelta(**delta)


def _glm_9b(rank: int = 8) -> ModelShape:
    layers, hidden, middle, groups, words = 40, 4096, 13696, 256, 151552
    linear = 2 * hidden * hidden + 2 * hidden * groups + 3 * hidden * middle
    inputs = 5 * hidden + middle
    outputs = 3 * hidden + 2 * groups + 2 * middle
    return ModelShape(
        parameters=layers * (linear + 3 * hidden + 2 * groups) + 2 * hidden * words + hidden,
        quantised=layers * linear,
        largest=2 * hidden * middle,
        adapter=rank * layers * (inputs + outputs),
        layers=layers,
        hidden=hidden,
        vocabulary=words,
        inputs=layers * inputs,
        outputs=layers * outputs,
        middles=layers * rank * 6,
        norms=layers * 2 * hidden,
        attention=layers * 2 * (hidden + groups),
        gates=layers * middle,
    )


GLM_9B: Final = _glm_9b()
"""GLM-4-9B with an adapter of rank 8 on every linear layer."""

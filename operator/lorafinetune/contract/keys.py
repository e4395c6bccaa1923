"""Content addresses: every stage is a function of its inputs, and its output lives at a key of them.

`FIELDS` is the one declaration of which field of the resource shapes the output of which stage. A
field that maps to None shapes no output: changing it recomputes nothing.
"""

import decimal
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from lorafinetune.api.fields import is_marked, walk
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import ModelStatus, StageName
from lorafinetune.api.training import BATCH_SIZE, Dpo, Training
from lorafinetune.api.types import Decimal
from lorafinetune.contract.arguments import place
from lorafinetune.contract.extra_args import packing_safe, shaping

SEMANTICS: Final[dict[StageName, int]] = {"download": 1, "prepare": 2, "train": 2, "export": 3}
"""Raised only when a stage's output for the same inputs changes."""
EVALUATION_SEMANTICS: Final = 1
"""The same of a base model's loss on held-out rows."""

Owner = StageName | Literal["publish"]
"""Whose work a field shapes. The export stage publishes too, and tells trackers, but that makes no output at
a key: it brings another place to the state of what is there, which does not depend on the place."""

DATASET_FIELDS: Final[dict[str, Owner | None]] = {
    "name": "prepare",
    "source": "download",
    "revision": "download",
    "connection": None,
    "format": "prepare",
    "columns.prompt": "prepare",
    "columns.query": "prepare",
    "columns.response": "prepare",
    "columns.rejected": "prepare",
    "columns.text": "prepare",
    "columns.history": "prepare",
    "columns.messages": "prepare",
    "columns.system": "prepare",
    "columns.tools": "prepare",
    "system": "prepare",
    "clean.remove": "prepare",
    "clean.dropIntroLine": "prepare",
    "clean.replace": "prepare",
    "maxSamples": "prepare",
    "weight": "prepare",
    "onBadRow": "prepare",
    "maxBadFraction": "prepare",
}

FIELDS: Final[dict[str, Owner | None]] = {
    "connections": None,
    "model.source": "download",
    "model.revision": "download",
    "model.template": "prepare",
    "model.connection": None,
    **{f"datasets[].{path}": stage for path, stage in DATASET_FIELDS.items()},
    "training.objective": "prepare",
    "training.dpo.beta": "train",
    "training.lora.rank": "train",
    "training.lora.alpha": "train",
    "training.lora.dropout": "train",
    "training.lora.targets": "train",
    "training.lora.variant": "train",
    "training.quantization": "train",
    "training.precision": "train",
    "training.epochs": "train",
    "training.maxSteps": "train",
    "training.learningRate": "train",
    "training.scheduler": "train",
    "training.warmupRatio": "train",
    "training.weightDecay": "train",
    "training.maxGradNorm": "train",
    "training.cutoffLength": "prepare",
    "training.maxSamples": "prepare",
    "training.sampling": "prepare",
    "training.deduplicate": "prepare",
    "training.batchSize": "train",
    "training.batchTokens": "train",
    "training.packing": "train",
    "training.learnFrom": "prepare",
    "training.trainOnPrompt": "prepare",
    "training.evaluation.fraction": "prepare",
    "training.evaluation.count": "prepare",
    "training.evaluation.dataset": "prepare",
    "training.evaluation.groupBy": "prepare",
    "training.evaluation.everySteps": "train",
    "training.evaluation.gate": None,
    "training.checkpoint.every": None,
    "training.checkpoint.keep": None,
    "training.checkpoint.select": "train",
    "training.checkpoint.earlyStopping.patience": "train",
    "training.checkpoint.earlyStopping.minImprovement": "train",
    "training.seed": "prepare",
    "training.extraArgs": "train",
    "export.merged.maxShardSize": "export",
    "export.merged.checkpoint": "export",
    "export.publish": "publish",
    "export.trackers": "publish",
    "export.configMap": None,
    "storage": None,
    "resources": None,
    "scheduling": None,
    "activeDeadlineSeconds": None,
    "suspend": None,
    "maxRetries": None,
    "ttlSecondsAfterFinished": None,
}

BEFORE: Final = {
    "training.objective": "sft",
    "training.quantization": "none",
    "training.checkpoint.select": "last",
}
"""What was meant before there was a field for it: it leaves no trace in a key, so that what was made then is
found."""

DECIMALS: Final = frozenset(path for path, field in walk(LoRAFineTuneSpec) if is_marked(field, Decimal))
"""Fields whose value is a number in a string: `1e-4` and `0.0001` make the same key."""


def key(
    stage: StageName, spec: Mapping[str, Any], reads: Mapping[str, Any], resolved: Mapping[str, Any] = {}
) -> str:
    """The content address of a stage's output, 64 hexadecimal digits.

    spec: the encoded spec, or the part of it that the stage's fields are in. reads: digests and keys
    of what the stage reads, and versions of what it reads with. resolved: values that replace an
    `auto` or an absent field, by path.
    """
    return digest(
        {
            "stage": stage,
            "semantics": SEMANTICS[stage],
            "reads": dict(reads),
            "fields": shaping_fields(stage, spec) | dict(resolved),
        }
    )


def source_key(source: str, revision: str) -> str:
    """Where the files of a source at a resolved revision lie: known before they are fetched, so that
    an interrupted download goes on."""
    return key("download", {}, {"source": source, "revision": revision})


def model_place(model: ModelStatus) -> str:
    """Where the files of a base model lie, relative to `storage.uri`."""
    return place("models", source_key(model.source, model.revision))


def evaluation_key(model: str, rows: str, precision: str) -> str:
    """The content address of a base model's loss on held-out rows. No other field shapes it, so trainings
    share it. model, rows: digests. precision: resolved."""
    read = {"model": model, "rows": rows, "precision": precision}
    return digest({"evaluation": EVALUATION_SEMANTICS, "reads": read})


def resolved_precision(precision: str) -> str:
    """`auto` is bf16 on every machine: a result must not depend on the card that was free."""
    return "bf16" if precision == "auto" else precision


def resolved_packing(training: Training) -> Literal["documents", "tokens", "none"]:
    """`auto` packs the conversations of a step, unless an argument can't be packed with. Pairs never are."""
    if training.packing == "tokens":
        return "tokens"
    safe = packing_safe(training.extra_args) and training.objective != "dpo"
    return "documents" if training.packing == "auto" and safe else "none"


def resolved_batch_size(training: Training) -> int | None:
    """Rows of an optimizer step; None where it is of tokens."""
    return None if training.batch_tokens else training.batch_size or BATCH_SIZE


def resolved_dpo(training: Training) -> Dpo | None:
    """The settings of direct preference optimisation; None where it is not the objective."""
    return training.dpo or Dpo() if training.objective == "dpo" else None


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shaping_fields(owner: Owner, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that shape a stage's output, or what is published, by path; absent ones are left out."""
    paths = (path for path, declared in FIELDS.items() if declared == owner)
    return {
        at: _canonical(path, value)
        for path in paths
        for at, value in _select(spec, path.split("."), "")
        if value is not None and BEFORE.get(path) != value
    }


def _select(value: Any, parts: list[str], at: str) -> Iterator[tuple[str, Any]]:
    if not parts:
        yield at, value
        return
    name, many, _ = parts[0].partition("[]")
    if not isinstance(value, Mapping) or name not in value:
        return
    here = f"{at}.{name}" if at else name
    if not many:
        yield from _select(value[name], parts[1:], here)
        return
    for index, item in enumerate(value[name]):
        yield from _select(item, parts[1:], f"{here}[{index}]")


def _canonical(path: str, value: Any) -> Any:
    if path in DECIMALS:
        return format(decimal.Decimal(value).normalize(), "e")
    return shaping(value) if path == "training.extraArgs" else value

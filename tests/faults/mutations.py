"""Changes of a resource, one property at a time, as the schema of the CRD gives reason for."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from builders import merged

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]

WHOLE: Final[Mapping[str, Any]] = {
    "connections": [
        {
            "name": "store",
            "endpoint": "http://s3.example:7070",
            "region": "us-east-1",
            "addressing": "path",
            "secretRef": {"name": "s3"},
        },
        {"name": "hub", "endpoint": "https://hub.example", "secretRef": {"name": "token"}},
    ],
    "model": {
        "source": "hf://owner/model",
        "revision": "main",
        "template": "smollm2",
        "connection": "hub",
    },
    "datasets": [
        {
            "name": "rows",
            "source": "s3://data/rows.json",
            "revision": "c0ffee",
            "connection": "store",
            "format": "alpaca",
            "columns": {
                "prompt": "a",
                "query": "b",
                "response": "c",
                "rejected": "h",
                "text": "i",
                "history": "d",
                "messages": "e",
                "system": "f",
                "tools": "g",
            },
            "system": "be kind",
            "clean": {
                "remove": ["x", "y"],
                "dropIntroLine": "well",
                "replace": [{"pattern": "z+", "replacement": "z"}],
            },
            "weight": "2",
            "maxSamples": 100,
            "onBadRow": "skip",
            "maxBadFraction": "0.5",
        },
        {"source": "hf://owner/data", "connection": "hub"},
    ],
    "training": {
        "objective": "sft",
        "lora": {
            "rank": 8,
            "alpha": 16,
            "dropout": "0.1",
            "targets": ["q_proj", "v_proj"],
            "variant": "lora",
        },
        "precision": "bf16",
        "epochs": "3",
        "learningRate": "1e-4",
        "scheduler": "cosine",
        "warmupRatio": "0.1",
        "weightDecay": "0.1",
        "maxGradNorm": "1",
        "cutoffLength": 512,
        "maxSamples": 1000,
        "sampling": "proportional",
        "deduplicate": "exact",
        "batchSize": 8,
        "packing": "auto",
        "learnFrom": "allTurns",
        "trainOnPrompt": False,
        "evaluation": {
            "fraction": "0.1",
            "groupBy": "prompt",
            "everySteps": 10,
            "gate": {"metric": "evalLoss", "mustImproveBy": "0.02"},
        },
        "checkpoint": {
            "every": 10,
            "keep": 2,
            "select": "best",
            "earlyStopping": {"patience": 3, "minImprovement": "0.01"},
        },
        "seed": 42,
        "extraArgs": {"neftune_noise_alpha": "5"},
    },
    "export": {
        "merged": {"maxShardSize": "2GB", "checkpoint": 100},
        "publish": [
            {"to": "hf://owner/tuned", "connection": "hub", "visibility": "private"},
            {"to": "s3://data/tuned", "connection": "store"},
        ],
        "trackers": [
            {"name": "wandb", "entity": "team", "project": "runs", "connection": "hub"},
            {"name": "mlflow", "experiment": "runs", "connection": "hub"},
            {"name": "tensorboard"},
        ],
        "configMap": {"name": "tuned"},
    },
    "storage": {"uri": "s3://bucket/runs", "connection": "store"},
    "resources": {
        "download": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}, "scratch": "1Gi"},
        "prepare": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}, "scratch": "1Gi"},
        "train": {
            "requests": {"cpu": "1"},
            "limits": {"memory": "1Gi"},
            "scratch": "1Gi",
            "gpu": {"count": 1, "resourceName": "nvidia.com/gpu", "memory": "24Gi"},
            "nodes": 1,
            "sharding": "none",
            "terminationGracePeriodSeconds": 60,
        },
        "export": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}, "scratch": "1Gi"},
    },
    "scheduling": {
        "queueName": "gpus",
        "priorityClassName": "batch",
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [
            {
                "key": "gpu",
                "operator": "Equal",
                "value": "yes",
                "effect": "NoExecute",
                "tolerationSeconds": 60,
            },
            {"key": "spot", "operator": "Exists"},
        ],
        "serviceAccountName": "tuner",
        "imagePullSecrets": [{"name": "first"}, {"name": "second"}],
    },
    "activeDeadlineSeconds": 3600,
    "suspend": False,
    "maxRetries": 3,
    "ttlSecondsAfterFinished": 3600,
}
"""A spec in which every property is set that can be set beside the others."""


def _with(training: Mapping[str, Any]) -> Mapping[str, Any]:
    return merged(WHOLE, {"training": training})


FIRST, SECOND = WHOLE["datasets"]
PAIRS: Final = merged(
    WHOLE,
    {
        "datasets": [{**FIRST, "format": "preference"}, SECOND],
        "training": {
            "objective": "dpo",
            "dpo": {"beta": "0.2"},
            "lora": {"dropout": "0"},
            "extraArgs": None,
        },
    },
)
OTHERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "training.quantization": _with({"quantization": "nf4"}),
    "training.maxSteps": _with({"epochs": None, "maxSteps": 100}),
    "training.batchTokens": _with(
        {
            "batchSize": None,
            "packing": "tokens",
            "batchTokens": 4096,
            "extraArgs": {"neftune_noise_alpha": None, "adam_beta1": "0.8"},
        }
    ),
    "training.evaluation.count": _with({"evaluation": {"fraction": None, "count": 5}}),
    "training.evaluation.dataset": _with(
        {"evaluation": {"fraction": None, "groupBy": None, "dataset": "rows"}}
    ),
    "export.trackers.0.experiment": {**WHOLE}
    | {"export": WHOLE["export"] | {"trackers": WHOLE["export"]["trackers"][1:]}},
    "training.dpo": PAIRS,
    "training.dpo.beta": PAIRS,
}
"""The same with a property that excludes another, by that property."""
GONE: Final = object()
WRONG_TYPE: Final[Mapping[str, Any]] = {
    "string": 7,
    "integer": "seven",
    "boolean": "yes",
    "object": [],
    "array": {},
}
EMPTY: Final[Mapping[str, Any]] = {"string": "", "integer": 0, "object": {}, "array": []}


@dataclass(frozen=True)
class Mutation:
    """What becomes of one property."""

    path: Path
    what: str
    value: Any
    spec: Mapping[str, Any]

    def __str__(self) -> str:
        return f"spec.{'.'.join(map(str, self.path))} {self.what}"

    def applied(self) -> dict[str, Any]:
        """A copy of the spec with the change."""
        made: dict[str, Any] = copy.deepcopy(dict(self.spec))
        *way, last = self.path
        holder: Any = made
        for step in way:
            holder = holder[step]
        if self.value is GONE:
            del holder[last]
        else:
            holder[last] = self.value
        return made


def mutations(schema: Schema, spec: Mapping[str, Any]) -> Iterator[Mutation]:
    """Every change of every property, each of which makes another spec."""
    for path, found, value in _properties(schema, spec, ()):
        seen = [json.dumps(value)]
        for what, changed in _changes(found, value):
            written = "gone" if changed is GONE else json.dumps(changed)
            if written not in seen:
                seen.append(written)
                yield Mutation(path, what, changed, spec)


def every_mutation(schema: Schema) -> list[Mutation]:
    """Those of all properties that there are."""
    others = (m for path, spec in OTHERS.items() for m in mutations(schema, spec) if _generic(m.path) == path)
    return [*mutations(schema, WHOLE), *others]


def unset(schema: Schema, spec: Mapping[str, Any]) -> set[str]:
    """Properties of the schema that the spec does not set."""
    declared = {_generic(path) for path, _ in _declared(schema, ())}
    return declared - {_generic(path) for path, _, _ in _properties(schema, spec, ())}


def _properties(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, Schema, Any]]:
    if path:
        yield path, schema, value
    if isinstance(value, dict | Mapping):
        for name, inner in value.items():
            below = schema.get("properties", {}).get(name) or schema.get("additionalProperties", {})
            yield from _properties(below, inner, (*path, name))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from _properties(schema["items"], value[index], (*path, index))


def _declared(schema: Schema, path: Path) -> Iterator[tuple[Path, Schema]]:
    if path:
        yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from _declared(below, (*path, name))
    if "items" in schema:
        yield from _declared(schema["items"], (*path, 0))


def _generic(path: Path) -> str:
    return ".".join(map(str, path))


def _changes(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    kind = schema.get("type") or ("integer" if isinstance(value, int) else "string")
    yield "deleted", GONE
    yield "null", None
    if kind in EMPTY:
        yield "empty", EMPTY[kind]
    if "type" in schema:
        yield "of another type", WRONG_TYPE[kind]
    else:
        yield "as a number", 7
        yield "of another type", True
    yield from _of_kind(kind, schema, value)


def _of_kind(kind: str, schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    match kind:
        case "integer":
            yield from _of_number(schema, value)
        case "string":
            yield from _of_text(schema, str(value))
        case "boolean":
            yield "turned", not value
        case "array":
            yield from _of_list(schema, value)
        case _:
            yield from _of_map(schema, value)


def _of_number(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, int):
        yield "one more", value + 1
        yield "doubled", 2 * value
    yield "below zero", -1
    if "minimum" in schema:
        yield "the least", int(schema["minimum"])
        yield "less than the least", int(schema["minimum"]) - 1
    if "maximum" in schema:
        yield "the most", int(schema["maximum"])
        yield "more than the most", int(schema["maximum"]) + 1


def _of_text(schema: Schema, value: str) -> Iterator[tuple[str, Any]]:
    if "enum" in schema:
        yield from ((f"set to {other}", other) for other in schema["enum"])
        yield "no such value", "no-such-value"
        return
    pattern = re.compile(schema.get("pattern", ""))
    least, longest = int(schema.get("minLength", 0)), int(schema.get("maxLength", 0))
    yield "with a space before", f" {value}"
    yield "with a line break", f"{value}\nx"
    yield "of other letters", "\x1b[31m{{ x }}<b>%s"
    for what, other in (("another", f"{value}2"), ("another", f"2{value}"), ("another", f"{value}x")):
        if pattern.search(other):
            yield what, other
            break
    if least:
        yield "as short as can be", value[:least]
    if longest:
        yield "as long as can be", (value + "0" * longest)[:longest]
        yield "too long", value + "0" * longest


def _of_list(schema: Schema, value: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "swapped", value[::-1]
    yield "shortened", value[:1]
    yield "with an item twice", [*value, value[0]]
    if "maxItems" in schema:
        yield "with too many items", [value[0]] * (int(schema["maxItems"]) + 1)


def _of_map(schema: Schema, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "with what nobody knows", {**value, "no-such-field": "x"}
    if "maxProperties" in schema:
        some = next(iter(value.values()))
        yield (
            "with too many fields",
            {f"f{number}": some for number in range(int(schema["maxProperties"]) + 1)},
        )

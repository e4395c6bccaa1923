"""Hypothesis strategies: valid resources, made from the schema, and ways to spoil one.

What the schema can't say, the rules across fields, is put right after drawing.
"""

import copy
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from lorafinetune.api import API_VERSION, KIND
from lorafinetune.api.crd import schema
from lorafinetune.api.types import is_time

Json = Any
Node = Mapping[str, Any]
Site = tuple[str | int, ...]

CHARACTERS = st.characters(exclude_categories=["Cs"])
NAMES = ("store", "hub", "a-1")
SHORT = 12
TOLERANT = 10**8
"""From about here the API server takes a number and a half for whole, and keeps the half."""
FEW = 3
WEIGHT = "2.5"
FORMATS = {"sft": ("alpaca", "openai"), "dpo": ("preference",), "pt": ("text",)}

KEYS = {
    "extraArgs": r"[a-z0-9_]{1,64}",
    "requests": r"[a-z0-9]([a-z0-9./-]{0,20}[a-z0-9])?",
    "limits": r"[a-z0-9]([a-z0-9./-]{0,20}[a-z0-9])?",
    "nodeSelector": r"([a-z0-9.-]{1,20}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?",
}
"""Keys of the maps: rules bound them, not the schema."""


@st.composite
def specs(draw: DrawFn, whole: bool = False) -> Json:
    """A valid spec; with `whole`, one in which every field is set."""
    spec = draw(_by_schema("spec", whole))
    _obey_datasets(spec)
    if spec.get("export", {}).get("publish"):
        spec["export"].setdefault("merged", {})
    _obey_objective(draw, spec, whole)
    _obey_training(draw, spec, whole)
    if "evaluation" in spec["training"]:
        _obey_evaluation(draw, spec, whole)
    else:
        checkpoint = spec["training"].get("checkpoint", {})
        for name in ("select", "earlyStopping"):
            checkpoint.pop(name, None)
    _obey_connections(draw, spec)
    _obey_trackers(draw, spec, whole)
    return spec


@st.composite
def statuses(draw: DrawFn, whole: bool = False) -> Json:
    """A valid status; with `whole`, one in which every field is set."""
    return draw(_by_schema("status", whole))


@cache
def _by_schema(name: str, whole: bool) -> SearchStrategy[Json]:
    """Built once: to build it costs more than to draw from it."""
    return _values(schema()["properties"][name], name, whole)


def documents(spec: SearchStrategy[Json], status: SearchStrategy[Json] | None = None) -> SearchStrategy[Json]:
    """Whole resources around a spec."""
    fields = {
        "apiVersion": st.just(API_VERSION),
        "kind": st.just(KIND),
        "metadata": st.just({"name": "tune", "namespace": "default"}),
        "spec": spec,
    }
    return st.fixed_dictionaries(fields | ({} if status is None else {"status": status}))


@st.composite
def spoiled(draw: DrawFn, values: SearchStrategy[Json]) -> Json:
    """A valid value with one change somewhere, which may or may not make it invalid."""
    value = copy.deepcopy(draw(values.filter(bool)))
    *above, last = draw(st.sampled_from(list(_sites(value))))
    holder = value
    for part in above:
        holder = holder[part]
    if draw(st.integers(0, 5)) == 0:
        del holder[last]
    else:
        holder[last] = draw(_other(holder[last]))
    return value


def _obey_objective(draw: DrawFn, spec: Json, whole: bool) -> None:
    """Every field is set with `dpo` alone."""
    training = spec["training"]
    objective = training["objective"] = "dpo" if whole else training.get("objective", "sft")
    for dataset in spec["datasets"]:
        if "format" in dataset:
            dataset["format"] = draw(st.sampled_from(("auto", *FORMATS[objective])))
    if objective != "sft":
        training |= {"learnFrom": "allTurns", "trainOnPrompt": False}
    if training.get("trainOnPrompt"):
        training["learnFrom"] = "allTurns"
    if objective == "pt":
        training.get("evaluation", {}).pop("groupBy", None)
        for dataset in spec["datasets"]:
            dataset.pop("system", None)
    _obey_preference(draw, training)


def _obey_preference(draw: DrawFn, training: Json) -> None:
    if training["objective"] != "dpo":
        training.pop("dpo", None)
        return
    if "dpo" in training:
        training["dpo"] = {"beta": "0.5"}
    training["precision"] = draw(st.sampled_from(["auto", "bf16", "fp16", "fp32"]))
    training.setdefault("lora", {})["dropout"] = "0"


def _obey_training(draw: DrawFn, spec: Json, whole: bool) -> None:
    training = spec["training"]
    training.pop("epochs", None)
    training.pop("maxSteps", None)
    training |= draw(st.sampled_from([{"epochs": "0.5"}, {"epochs": "1e2"}, {"maxSteps": 100_000_000}]))
    if "learningRate" in training or whole:
        training["learningRate"] = draw(st.sampled_from(["1", "1e-4", "0.000001", "3E-05", "1e0"]))
    if training.get("precision") == "fp8":
        training["packing"] = "auto"
        if "lora" in training:
            training["lora"]["variant"] = "lora"
    _obey_quantization(training)
    _obey_packing(training)
    train = spec.get("resources", {}).get("train", {})
    for holder, field in ((train.get("gpu", {}), "count"), (train, "nodes")):
        if field in holder:
            holder[field] = min(holder[field], 1)
    if "sharding" in train:
        train["sharding"] = "none"


def _obey_quantization(training: Json) -> None:
    computes = training.get("precision", "auto") in ("auto", "bf16", "fp16")
    if not computes or training.get("lora", {}).get("variant") == "dora":
        training.pop("quantization", None)


def _obey_packing(training: Json) -> None:
    """Either size of a step, by whether it is of tokens."""
    if training["objective"] == "dpo" and training.get("packing") == "tokens":
        training["packing"] = "none"
    if training.get("packing") != "tokens":
        training.pop("batchTokens", None)
        return
    training.pop("batchSize", None)
    training["batchTokens"] = max(training.get("batchTokens", 0), training.get("cutoffLength", 2048))


def _obey_datasets(spec: Json) -> None:
    for index, dataset in enumerate(spec["datasets"]):
        if "name" in dataset:
            dataset["name"] = f"set-{index}"
        if "maxBadFraction" in dataset:
            dataset["onBadRow"] = "skip"
        if "weight" in dataset:
            dataset["weight"] = WEIGHT
            spec["training"]["sampling"] = "proportional"


def _obey_evaluation(draw: DrawFn, spec: Json, whole: bool) -> None:
    evaluation = spec["training"]["evaluation"]
    given: list[dict[str, Any]] = [{"fraction": fraction} for fraction in ("0.1", "5e-1", "0.999")]
    others = [{"count": 9}, *({"dataset": d["name"]} for d in spec["datasets"] if "name" in d)]
    for name in ("fraction", "count", "dataset"):
        evaluation.pop(name, None)
    evaluation |= draw(st.sampled_from(given if whole else given + others))
    if "dataset" in evaluation:
        evaluation.pop("groupBy", None)


def _obey_connections(draw: DrawFn, spec: Json) -> None:
    known = [connection["name"] for connection in spec.get("connections", ())]
    publish = spec.get("export", {}).get("publish", ())
    for holder in (spec["model"], spec["storage"], *spec["datasets"], *publish):
        if "connection" in holder and known:
            holder["connection"] = draw(st.sampled_from(known))
            if holder.get("source", "").startswith("https://"):
                holder["source"] = "hf://owner/rows"
        else:
            holder.pop("connection", None)


def _obey_trackers(draw: DrawFn, spec: Json, whole: bool) -> None:
    """Their fields are set by two of them; mlflow's connection has an endpoint."""
    export, servers = spec.get("export", {}), spec.get("connections", [])
    if "trackers" not in export:
        return
    names = {"mlflow", "wandb"} if whole else {tracker["name"] for tracker in export["trackers"]}
    found: list[Json] = [{"name": "tensorboard"}] if "tensorboard" in names else []
    if "mlflow" in names and servers:
        server = draw(st.sampled_from(servers))
        server.setdefault("endpoint", "http://mlflow.example:5000")
        found.append({"name": "mlflow", "experiment": "runs", "connection": server["name"]})
    if "wandb" in names and servers:
        known = draw(st.sampled_from(servers))["name"]
        found.append({"name": "wandb", "entity": "team", "project": "runs", "connection": known})
    export["trackers"] = found


def _values(node: Node, name: str, whole: bool) -> SearchStrategy[Json]:
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return _integers(node) | _texts(node)
    match node["type"]:
        case "object" if "properties" in node:
            return _objects(node, whole)
        case "object":
            keys = st.from_regex(KEYS[name], fullmatch=True)
            items = _values(node["additionalProperties"], name, whole)
            return st.dictionaries(keys, items, min_size=int(whole), max_size=FEW)
        case "array":
            return _lists(node, name, whole)
        case "string":
            return st.sampled_from(NAMES) if name == "name" and "enum" not in node else _texts(node)
        case "integer":
            return _integers(node)
    return st.booleans()


def _objects(node: Node, whole: bool) -> SearchStrategy[Json]:
    fields = {name: _values(child, name, whole) for name, child in node["properties"].items()}
    needed = {name: value for name, value in fields.items() if whole or name in node.get("required", ())}
    return st.fixed_dictionaries(
        needed, optional={name: value for name, value in fields.items() if name not in needed}
    )


def _lists(node: Node, name: str, whole: bool) -> SearchStrategy[Json]:
    keys = node.get("x-kubernetes-list-map-keys")
    return st.lists(
        _values(node["items"], name, whole),
        min_size=max(node.get("minItems", 0), int(whole)),
        max_size=min(node["maxItems"], FEW),
        unique_by=(lambda item: tuple(item[key] for key in keys)) if keys else None,
    )


def _texts(node: Node) -> SearchStrategy[str]:
    if node.get("format") == "date-time":
        return st.datetimes(min_value=datetime(1970, 1, 1)).map(lambda time: f"{time:%Y-%m-%dT%H:%M:%S}Z")
    if "pattern" in node:
        texts = st.from_regex(f"(?:{node['pattern'][1:-1]})", fullmatch=True, alphabet=CHARACTERS)
        return texts.filter(lambda text: len(text) <= node["maxLength"] and _is_plain(text))
    shortest, longest = node.get("minLength", 0), node["maxLength"]
    return st.text(CHARACTERS, min_size=shortest, max_size=min(longest, SHORT)) | st.just("é" * longest)


def _is_plain(text: str) -> bool:
    """No place that a rule refuses."""
    return "://" not in text or text.startswith("file://") or not {".", ".."} & set(text.split("/"))


def _integers(node: Node) -> SearchStrategy[int]:
    least, most = node["minimum"], node["maximum"]
    return st.integers(least, most) | st.sampled_from([least, most])


def _sites(value: Json, at: Site = ()) -> Iterator[Site]:
    """The paths of everything inside a value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for part, child in children:
        yield (*at, part)
        yield from _sites(child, (*at, part))


ANYTHING: tuple[Json, ...] = (
    *(None, True, False, 0, 1, -1, 7, 10.0, 1.5, -0.0, 1e300, 2**53, 2**53 + 1, 2**63, 10**30),
    *(
        "",
        " ",
        "0",
        "1",
        "10",
        "1e-4",
        "true",
        "null",
        "auto",
        "store",
        "all",
        "é",
        "a\n",
        "x" * 70,
        "x" * 10_000,
    ),
    *(
        [],
        [None],
        [{}],
        ["a"],
        [["a"]],
        {},
        {"name": "store"},
        {"bogus": 1},
        {"bogus": None},
        {"a": {"b": 1}},
    ),
)


def _other(value: Json) -> SearchStrategy[Json]:
    """Something else in the place of a value: something near it, or anything, but no list in the place of a
    time: the API server takes it for one."""
    others = st.sampled_from(_near(value)) | st.sampled_from(ANYTHING)
    if isinstance(value, str) and is_time(value):
        others = others.filter(lambda other: not isinstance(other, list))
    return others.map(copy.deepcopy)


def _near(value: Json) -> list[Json]:
    match value:
        case bool():
            return [not value, int(value), str(value).lower()]
        case int():
            near = [value + 1, value - 1, value * 1000, -value, float(value), str(value)]
            return [*near, value + 0.5] if abs(value) < TOLERANT else near
        case str():
            return [
                value + "\n",
                value + " ",
                value.upper(),
                value * 40,
                value + "é",
                value[1:],
                [value],
                value + "0",
            ]
        case list():
            return [value * 2, value * 40, [*value, None], value[1:], [value], dict.fromkeys(map(str, value))]
        case dict():
            return [value | {"bogus": 1}, value | {"bogus": None}, value | {"name": "store"}, [value], {}]
    return [value]

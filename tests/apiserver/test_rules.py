"""Every CEL rule is one declaration, run by the API server and by the decoder with one wording."""

from collections.abc import Iterator
from typing import Any

import pytest

from apiserver.kube import RESOURCES, ask, created, tried
from builders import SPEC, document
from cluster.apiserver import ApiServer
from lorafinetune.api.codec import InvalidResourceError, decode
from lorafinetune.api.crd import schema

DATA = {"source": "s3://data/rows.json", "connection": "store"}
PAIRS: dict[str, Any] = {"training": {"objective": "dpo"}, "datasets": [DATA | {"format": "preference"}]}
HUB = {"to": "hf://owner/tuned", "connection": "nobody"}

FORMAT_OF_ANOTHER_OBJECTIVE = (
    "a format does not go with training.objective: preference is for dpo, text for pt, "
    "and every other for sft"
)
PLAIN = "has the part . or ..: write the path that is meant"

WANDB: Any = {"name": "wandb", "experiment": None, "project": "runs"}
PROJECT = "project and entity are where wandb has the run: wandb needs a project, no other tracker has one"
EXPERIMENT = "experiment is where mlflow has the run: mlflow needs it, and no other tracker has it"

Change = dict[str, Any]
Case = tuple[Change, Change, str, str]
"""A change that is accepted, one that is refused, where, and the rule's message."""


def tracked(**fields: Any) -> Change:
    """One tracker; what is None is left out."""
    tracker = {"name": "mlflow", "experiment": "runs", "connection": "mlflow"} | fields
    servers = [{"name": "store"}, {"name": "mlflow", "endpoint": "http://mlflow.example:5000"}]
    given = {name: value for name, value in tracker.items() if value is not None}
    return {"connections": servers, "export": {"trackers": [given]}}


RULES: dict[str, Case] = {
    "a model's connection is one of the list": (
        {"model": {"connection": "store"}},
        {"model": {"connection": "nobody"}},
        "spec.model.connection",
        "names a connection that is not in spec.connections",
    ),
    "the storage's connection is one of the list": (
        {"storage": {"connection": None}},
        {"storage": {"connection": "nobody"}},
        "spec.storage.connection",
        "names a connection that is not in spec.connections",
    ),
    "a dataset's connection is one of the list": (
        {"datasets": [DATA, DATA]},
        {"datasets": [DATA, DATA | {"connection": "nobody"}]},
        "spec.datasets",
        "a dataset names a connection that is not in spec.connections",
    ),
    "a publish target's connection is one of the list": (
        {"export": {"merged": {}, "publish": [HUB | {"connection": "store"}]}},
        {"export": {"merged": {}, "publish": [HUB]}},
        "spec.export.publish",
        "a publish target names a connection that is not in spec.connections",
    ),
    "what is published is merged": (
        {"export": {"publish": []}},
        {"export": {"publish": [{"to": "hf://owner/tuned"}]}},
        "spec.export.publish",
        "publish needs merged",
    ),
    "a tracker's connection is one of the list": (
        tracked(connection="mlflow"),
        tracked(connection="nobody"),
        "spec.export.trackers",
        "a tracker names a connection that is not in spec.connections",
    ),
    "mlflow's connection has an endpoint": (
        tracked(connection="mlflow"),
        tracked(connection="store"),
        "spec.export.trackers",
        "mlflow's connection has no endpoint: give it the address of the server",
    ),
    "mlflow has a connection": (
        tracked(connection="mlflow"),
        tracked(connection=None),
        "spec.export.trackers[0].connection",
        "mlflow needs a connection, with the endpoint of its server",
    ),
    "wandb has a connection": (
        tracked(**WANDB, connection="store"),
        tracked(**WANDB, connection=None),
        "spec.export.trackers[0].connection",
        "wandb needs a connection, with the Secret that has its key",
    ),
    "wandb has a project": (
        tracked(**WANDB),
        tracked(**WANDB | {"project": None}),
        "spec.export.trackers[0].project",
        PROJECT,
    ),
    "mlflow has no entity": (
        tracked(),
        tracked(entity="team"),
        "spec.export.trackers[0].project",
        PROJECT,
    ),
    "tensorboard has no connection": (
        tracked(name="tensorboard", experiment=None, connection=None),
        tracked(name="tensorboard", experiment=None),
        "spec.export.trackers[0].connection",
        "tensorboard has no connection: what it reads lies in the store",
    ),
    "mlflow has an experiment": (
        tracked(experiment="runs"),
        tracked(experiment=None),
        "spec.export.trackers[0].experiment",
        EXPERIMENT,
    ),
    "tensorboard has no experiment": (
        tracked(name="tensorboard", experiment=None, connection=None),
        tracked(name="tensorboard", connection=None),
        "spec.export.trackers[0].experiment",
        EXPERIMENT,
    ),
    "GPUs share the rows of a step": (
        {"resources": {"train": {"gpu": {"count": 4}}}},
        {"resources": {"train": {"gpu": {"count": 3}}}},
        "spec.resources.train.gpu.count",
        "must divide training.batchSize, the rows of a step, which GPUs share: change one of the two",
    ),
    "pairs are trained on by one GPU": (
        PAIRS | {"resources": {"train": {"gpu": {"count": 1}}}},
        PAIRS | {"resources": {"train": {"gpu": {"count": 2}}}},
        "spec.resources.train.gpu.count",
        "objective: dpo trains on one GPU: set it to 1",
    ),
    "nodes share the rows of a step": (
        {"resources": {"train": {"gpu": {"count": 2}, "nodes": 4}}},
        {"resources": {"train": {"gpu": {"count": 2}, "nodes": 3}}},
        "spec.resources.train.nodes",
        "nodes times gpu.count must divide training.batchSize, the rows of a step, which all share: change "
        "one of them",
    ),
    "pairs are trained on by one node": (
        PAIRS | {"resources": {"train": {"gpu": {"count": 0}, "nodes": 1}}},
        PAIRS | {"resources": {"train": {"gpu": {"count": 0}, "nodes": 2}}},
        "spec.resources.train.nodes",
        "objective: dpo trains on one node: set it to 1",
    ),
    "a base is split over several GPUs": (
        {"resources": {"train": {"gpu": {"count": 1}, "nodes": 2, "sharding": "fsdp2"}}},
        {"resources": {"train": {"gpu": {"count": 1}, "sharding": "fsdp2"}}},
        "spec.resources.train.sharding",
        "fsdp2 splits the base over several GPUs: ask for more than one, or set it to none",
    ),
    "a base in 4 bits is not split": (
        {"training": {"quantization": "nf4"}, "resources": {"train": {"gpu": {"count": 2}}}},
        {
            "training": {"quantization": "nf4"},
            "resources": {"train": {"gpu": {"count": 2}, "sharding": "fsdp2"}},
        },
        "spec.resources.train.sharding",
        "fsdp2 does not go with quantization: nf4, precision: fp8 or lora.variant: dora: change one",
    ),
    "a model's place is what it says": (
        {"model": {"source": "s3://models/..a/.b."}},
        {"model": {"source": "s3://models/../data"}},
        "spec.model.source",
        PLAIN,
    ),
    "a hub's owner is no part of a path": (
        {"model": {"source": "hf://.owner/name."}},
        {"model": {"source": "hf://./name"}},
        "spec.model.source",
        PLAIN,
    ),
    "a dataset's place is what it says": (
        {"datasets": [DATA | {"source": "s3://data/...json"}]},
        {"datasets": [DATA | {"source": "s3://data/rows/.."}]},
        "spec.datasets[0].source",
        PLAIN,
    ),
    "the store's place is what it says": (
        {"storage": {"uri": "s3://bucket/a..b/..."}},
        {"storage": {"uri": "s3://bucket/runs/../other"}},
        "spec.storage.uri",
        PLAIN,
    ),
    "a publish target's place is what it says": (
        {"export": {"merged": {}, "publish": [{"to": "s3://models/.a"}]}},
        {"export": {"merged": {}, "publish": [{"to": "s3://models/./a"}]}},
        "spec.export.publish[0].to",
        PLAIN,
    ),
    "a path of the machine is nobody else's": (
        {"storage": {"uri": "file:///tmp/../runs"}},
        {"storage": {"uri": "s3://bucket/."}},
        "spec.storage.uri",
        PLAIN,
    ),
    "a web server gets no credentials": (
        {"datasets": [{"source": "https://files.example/rows.json"}]},
        {"datasets": [DATA | {"source": "https://files.example/rows.json"}]},
        "spec.datasets[0].connection",
        "an https:// source has no connection: it is fetched without credentials",
    ),
    "a share of bad rows needs that they are skipped": (
        {"datasets": [DATA | {"onBadRow": "skip", "maxBadFraction": "0.1"}]},
        {"datasets": [DATA | {"maxBadFraction": "0.1"}]},
        "spec.datasets[0]",
        "maxBadFraction needs onBadRow: skip",
    ),
    "epochs exclude steps": (
        {"training": {"epochs": None, "maxSteps": 10}},
        {"training": {"maxSteps": 10}},
        "spec.training",
        "give epochs or maxSteps, not both",
    ),
    "epochs or steps are given": (
        {"training": {"epochs": "0.5"}},
        {"training": {"epochs": None}},
        "spec.training",
        "give epochs or maxSteps",
    ),
    "fp8 takes an adapter that leaves the weights alone": (
        {"training": {"precision": "fp8", "lora": {"variant": "rslora"}}},
        {"training": {"precision": "fp8", "lora": {"variant": "dora"}}},
        "spec.training.precision",
        "fp8 does not go with lora.variant: dora, which needs the weights as they are",
    ),
    "fp8 takes packed conversations": (
        {"training": {"precision": "fp8", "packing": "auto"}},
        {"training": {"precision": "fp8", "packing": "none"}},
        "spec.training.precision",
        "fp8 needs packing: auto or tokens",
    ),
    "nf4 computes in half precision": (
        {"training": {"quantization": "nf4", "precision": "fp16"}},
        {"training": {"quantization": "nf4", "precision": "fp8"}},
        "spec.training.quantization",
        "nf4 computes in bf16 or fp16: it does not go with precision: fp8 or fp32",
    ),
    "nf4 takes an adapter that leaves the weights alone": (
        {"training": {"quantization": "nf4", "lora": {"variant": "rslora"}}},
        {"training": {"quantization": "nf4", "lora": {"variant": "dora"}}},
        "spec.training.quantization",
        "nf4 does not go with lora.variant: dora, which LLaMA-Factory trains on no quantised base",
    ),
    "steps of tokens have so many": (
        {"training": {"packing": "tokens", "batchTokens": 4096}},
        {"training": {"packing": "tokens"}},
        "spec.training.packing",
        "packing: tokens needs batchTokens, the tokens of an optimizer step",
    ),
    "other steps have none": (
        {"training": {"packing": "auto"}},
        {"training": {"batchTokens": 4096}},
        "spec.training.batchTokens",
        "batchTokens needs packing: tokens",
    ),
    "a step has a size": (
        {"training": {"packing": "auto", "batchSize": 8}},
        {"training": {"packing": "tokens", "batchSize": 8, "batchTokens": 4096}},
        "spec.training.batchSize",
        "give batchSize or batchTokens, not both: a step has so many conversations, or so many tokens",
    ),
    "a step has room for any conversation": (
        {"training": {"packing": "tokens", "batchTokens": 2048, "cutoffLength": 2048}},
        {"training": {"packing": "tokens", "batchTokens": 2047, "cutoffLength": 2048}},
        "spec.training.batchTokens",
        "batchTokens must be at least cutoffLength: a conversation stays whole",
    ),
    "pairs have no steps of tokens": (
        {"training": {"objective": "pt", "packing": "tokens", "batchTokens": 4096}},
        {"training": {"objective": "dpo", "packing": "tokens", "batchTokens": 4096}},
        "spec.training.packing",
        "packing: tokens does not go with objective: dpo, whose pairs are padded",
    ),
    "GPUs share a step of tokens as they like": (
        {
            "training": {"packing": "tokens", "batchTokens": 4096},
            "resources": {"train": {"gpu": {"count": 3}}},
        },
        {"training": {"batchSize": 16}, "resources": {"train": {"gpu": {"count": 3}}}},
        "spec.resources.train.gpu.count",
        "must divide training.batchSize, the rows of a step, which GPUs share: change one of the two",
    ),
    "pairs are not trained on in fp8": (
        {"training": {"objective": "dpo", "precision": "bf16"}},
        {"training": {"objective": "dpo", "precision": "fp8"}},
        "spec.training.precision",
        "fp8 does not go with objective: dpo",
    ),
    "pairs are trained on without dropout": (
        {"training": {"objective": "dpo", "lora": {"dropout": "0.0"}}},
        {"training": {"objective": "dpo", "lora": {"dropout": "0.1"}}},
        "spec.training.lora.dropout",
        "objective: dpo computes without dropout: leave it out",
    ),
    "beta is for pairs": (
        {"training": {"objective": "dpo", "dpo": {"beta": "0.5"}}},
        {"training": {"dpo": {"beta": "0.5"}}},
        "spec.training.dpo",
        "dpo needs objective: dpo",
    ),
    "beta is above 0, and at most 100": (
        {"training": {"objective": "dpo", "dpo": {"beta": "100"}}},
        {"training": {"objective": "dpo", "dpo": {"beta": "0"}}},
        "spec.training.dpo.beta",
        "beta must be above 0, and at most 100",
    ),
    "the last turn alone is learned of conversations": (
        {"training": {"learnFrom": "lastTurn"}},
        {"training": {"objective": "pt", "learnFrom": "lastTurn"}},
        "spec.training.learnFrom",
        "lastTurn needs objective: sft: a pair is of last answers, and a text is learned whole",
    ),
    "prompts are learned of conversations": (
        {"training": {"trainOnPrompt": True}},
        {"training": {"objective": "dpo", "trainOnPrompt": True}},
        "spec.training.trainOnPrompt",
        "trainOnPrompt needs objective: sft",
    ),
    "prompts are learned of all turns": (
        {"training": {"trainOnPrompt": True, "learnFrom": "allTurns"}},
        {"training": {"trainOnPrompt": True, "learnFrom": "lastTurn"}},
        "spec.training.trainOnPrompt",
        "trainOnPrompt learns from all turns: it does not go with learnFrom: lastTurn",
    ),
    "plain texts have no prompts to hold out together": (
        {"training": {"evaluation": {"fraction": "0.1", "groupBy": "prompt"}}},
        {"training": {"objective": "pt", "evaluation": {"fraction": "0.1", "groupBy": "prompt"}}},
        "spec.training.evaluation.groupBy",
        "groupBy does not go with objective: pt, whose texts have no prompt",
    ),
    "pairs are for dpo": (
        PAIRS,
        {"datasets": PAIRS["datasets"]},
        "spec.datasets",
        FORMAT_OF_ANOTHER_OBJECTIVE,
    ),
    "conversations are for sft": (
        {"training": {"objective": "pt"}, "datasets": [DATA | {"format": "auto"}]},
        {"training": {"objective": "pt"}, "datasets": [DATA | {"format": "alpaca"}]},
        "spec.datasets",
        FORMAT_OF_ANOTHER_OBJECTIVE,
    ),
    "texts have no system prompt": (
        {"training": {"objective": "dpo"}, "datasets": [DATA | {"system": "s"}]},
        {"training": {"objective": "pt"}, "datasets": [DATA | {"system": "s"}]},
        "spec.datasets",
        "a dataset's system does not go with training.objective: pt, whose texts have no system prompt",
    ),
    "the learning rate is above 0, and at most 1": (
        {"training": {"learningRate": "1"}},
        {"training": {"learningRate": "1.1"}},
        "spec.training.learningRate",
        "learningRate must be above 0, and at most 1",
    ),
    "there is more than no epoch": (
        {"training": {"epochs": "1e-9"}},
        {"training": {"epochs": "0e5"}},
        "spec.training.epochs",
        "epochs must be above 0, and at most 1000000",
    ),
    "there are not too many epochs": (
        {"training": {"epochs": "1e6"}},
        {"training": {"epochs": "1e99"}},
        "spec.training.epochs",
        "epochs must be above 0, and at most 1000000",
    ),
    "some rows are held out, and some are trained on": (
        {"training": {"evaluation": {"fraction": "0.5"}}},
        {"training": {"evaluation": {"fraction": "1"}}},
        "spec.training.evaluation.fraction",
        "fraction must be above 0, and below 1",
    ),
    "one way to hold rows out is given": (
        {"training": {"evaluation": {"count": 5}}},
        {"training": {"evaluation": {"count": 5, "fraction": "0.1"}}},
        "spec.training.evaluation",
        "give one of fraction, count and dataset",
    ),
    "rows are grouped where some of them are held out": (
        {"training": {"evaluation": {"count": 5, "groupBy": "prompt"}}},
        {
            "datasets": [DATA | {"name": "held"}],
            "training": {"evaluation": {"dataset": "held", "groupBy": "prompt"}},
        },
        "spec.training.evaluation.groupBy",
        "groupBy needs fraction or count",
    ),
    "the dataset that is held out is one of the list": (
        {"datasets": [DATA, DATA | {"name": "held"}], "training": {"evaluation": {"dataset": "held"}}},
        {"training": {"evaluation": {"dataset": "held"}}},
        "spec.training.evaluation.dataset",
        "names no dataset of spec.datasets",
    ),
    "a training stops early by its evaluations": (
        {
            "training": {
                "evaluation": {"count": 5},
                "checkpoint": {"earlyStopping": {"patience": 3, "minImprovement": "0.01"}},
            }
        },
        {"training": {"checkpoint": {"earlyStopping": {"patience": 3}}}},
        "spec.training.checkpoint.earlyStopping",
        "earlyStopping needs evaluation: it goes by the loss on held-out rows",
    ),
    "the best adapter is chosen by its evaluation": (
        {"training": {"evaluation": {"count": 5}, "checkpoint": {"select": "best"}}},
        {"training": {"checkpoint": {"select": "best"}}},
        "spec.training.checkpoint.select",
        "select: best needs evaluation: it goes by the loss on held-out rows",
    ),
    "datasets have names of their own": (
        {"datasets": [DATA | {"name": "one"}, DATA | {"name": "other"}, DATA, DATA]},
        {"datasets": [DATA | {"name": "one"}] * 2},
        "spec.datasets",
        "two datasets have the same name",
    ),
    "a weight needs shares": (
        {"datasets": [DATA | {"weight": "2"}], "training": {"sampling": "proportional"}},
        {"datasets": [DATA | {"weight": "2"}]},
        "spec.datasets",
        "a dataset's weight needs training.sampling: proportional",
    ),
    "a weight weighs something": (
        {"datasets": [DATA | {"weight": "0.1"}], "training": {"sampling": "proportional"}},
        {"datasets": [DATA | {"weight": "0"}], "training": {"sampling": "proportional"}},
        "spec.datasets[0].weight",
        "weight must be above 0",
    ),
    "extra arguments have names": (
        {"training": {"extraArgs": {"neftune_noise_alpha": "5"}}},
        {"training": {"extraArgs": {"--neftune": "5"}}},
        "spec.training.extraArgs",
        "every key must be an argument's name, like neftune_noise_alpha, of at most 64 characters",
    ),
    "requests are of resources": (
        {"resources": {"train": {"requests": {"nvidia.com/gpu": 1}}}},
        {"resources": {"train": {"requests": {"CPU": 1}}}},
        "spec.resources.train.requests",
        "every key must be the name of a resource, like cpu or nvidia.com/gpu, of at most 128 characters",
    ),
    "limits are of resources": (
        {"resources": {"export": {"limits": {"memory": "8Gi"}}}},
        {"resources": {"export": {"limits": {"": "8Gi"}}}},
        "spec.resources.export.limits",
        "every key must be the name of a resource, like cpu or nvidia.com/gpu, of at most 128 characters",
    ),
    "nodes are selected by labels": (
        {"scheduling": {"nodeSelector": {"kubernetes.io/arch": "amd64"}}},
        {"scheduling": {"nodeSelector": {"a" * 317: "amd64"}}},
        "spec.scheduling.nodeSelector",
        "every key must be the name of a label, like kubernetes.io/arch, of at most 316 characters",
    ),
}
LONG_NAME = "metadata.name must have at most 40 characters"
MOVED = "can't be changed once the model is there: make another resource"


def refusal(value: Any) -> list[str]:
    """What the decoder says."""
    with pytest.raises(InvalidResourceError) as refused:
        decode(value)
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, served: ApiServer) -> None:
    good, bad, where, message = RULES[rule]
    accepted, refused = (document(change, namespace="default") for change in (good, bad))
    decode(accepted)
    assert tried(served, accepted).accepted
    assert refusal(refused) == [f"{where}: {message}"]
    assert tried(served, refused).message.endswith(f'{where}: Invalid value: "object": {message}')


def test_rule_for_the_name(served: ApiServer) -> None:
    accepted, refused = (document(name="n" * length, namespace="default") for length in (40, 41))
    decode(accepted)
    assert tried(served, accepted).accepted
    assert refusal(refused) == [LONG_NAME]
    assert tried(served, refused).message.endswith(LONG_NAME)


def test_rule_for_an_edit_of_the_storage(served: ApiServer) -> None:
    """Which the decoder does not see: it is given one resource, and no earlier one."""
    first = created(served, document(name="moved", namespace="default"))
    corrected = ask(served, "PUT", f"{RESOURCES}/moved", _at(first, "s3://bucket/corrected"))
    assert corrected.accepted
    status = {"model": {"source": "hf://owner/model", "revision": "c", "digest": "0" * 64, "bytes": 1}}
    there = ask(served, "PUT", f"{RESOURCES}/moved/status", corrected.body | {"status": status})
    assert there.accepted
    elsewhere = _at(there.body, "s3://bucket/elsewhere")
    refused = ask(served, "PUT", f"{RESOURCES}/moved", elsewhere)
    assert refused.message.endswith(f'spec.storage.uri: Invalid value: "object": {MOVED}')
    decode(elsewhere)
    suspended = there.body | {"spec": there.body["spec"] | {"suspend": True}}
    assert ask(served, "PUT", f"{RESOURCES}/moved", suspended).accepted


def _at(resource: Any, uri: str) -> Any:
    spec = resource["spec"]
    return resource | {"spec": spec | {"storage": spec["storage"] | {"uri": uri}}}


def test_every_rule_is_in_the_table() -> None:
    assert set(declared(schema())) == {message for *_, message in RULES.values()} | {LONG_NAME, MOVED}
    assert "connections" in SPEC


def declared(node: Any) -> Iterator[str]:
    """The messages of all rules in a schema."""
    if isinstance(node, dict):
        yield from (rule["message"] for rule in node.get("x-kubernetes-validations", ()))
        for child in node.values():
            yield from declared(child)

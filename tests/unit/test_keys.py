"""Which field shapes the output of which stage: every field of the resource, one by one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import SPEC, merged
from lorafinetune.api.fields import walk
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import StageName
from lorafinetune.api.training import Training
from lorafinetune.contract.keys import (
    FIELDS,
    SEMANTICS,
    evaluation_key,
    key,
    resolved_batch_size,
    resolved_packing,
    source_key,
)
from unit.world import World

DATASET = {"source": "s3://data/rows.json", "connection": "store"}


def dataset(**changes: Any) -> dict[str, Any]:
    return {"datasets": [DATASET | changes]}


def training(**changes: Any) -> dict[str, Any]:
    return {"training": changes}


def stage(name: str, **changes: Any) -> dict[str, Any]:
    return {"resources": {name: changes}}


def scheduling(**changes: Any) -> dict[str, Any]:
    return {"scheduling": changes}


def connection(**changes: Any) -> dict[str, Any]:
    return {"connections": [{"name": "store", "secretRef": {"name": "s3"}} | changes]}


def tracked(**changes: Any) -> dict[str, Any]:
    server = {"endpoint": "http://mlflow.example:5000"}
    servers = [{"name": "store"}, *({"name": name} | server for name in ("mlflow", "other"))]
    tracker = {"name": "mlflow", "experiment": "runs", "connection": "mlflow"} | changes
    return {"connections": servers, "export": {"trackers": [tracker]}}


TOLERATION = {"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoExecute"}

EDITS: dict[str, dict[str, Any]] = {
    "connections[].name": {
        **connection(name="other"),
        "model": {"connection": "other"},
        **dataset(connection="other"),
        "storage": {"connection": "other"},
    },
    "connections[].endpoint": connection(endpoint="http://mirror:1"),
    "connections[].region": connection(region="eu-west-1"),
    "connections[].addressing": connection(addressing="virtual"),
    "connections[].secretRef.name": connection(secretRef={"name": "rotated"}),
    "model.source": {"model": {"source": "hf://owner/other"}},
    "model.revision": {"model": {"revision": "v2"}},
    "model.template": {"model": {"template": "glm4"}},
    "model.connection": {"model": {"connection": None}},
    "datasets[].name": dataset(name="rows"),
    "datasets[].source": dataset(source="s3://data/other.json"),
    "datasets[].revision": dataset(revision="v2"),
    "datasets[].connection": {"datasets": [{"source": DATASET["source"]}]},
    "datasets[].format": dataset(format="alpaca"),
    **{
        f"datasets[].columns.{name}": dataset(columns={name: "other"})
        for name in (
            "prompt",
            "query",
            "response",
            "rejected",
            "text",
            "history",
            "messages",
            "system",
            "tools",
        )
    },
    "datasets[].system": dataset(system="be kind"),
    "datasets[].clean.remove": dataset(clean={"remove": ["x"]}),
    "datasets[].clean.dropIntroLine": dataset(clean={"dropIntroLine": "x"}),
    "datasets[].clean.replace[].pattern": dataset(clean={"replace": [{"pattern": "x"}]}),
    "datasets[].clean.replace[].replacement": dataset(
        clean={"replace": [{"pattern": "x", "replacement": "y"}]}
    ),
    "datasets[].weight": {**dataset(weight="2"), **training(sampling="proportional")},
    "datasets[].maxSamples": dataset(maxSamples=5),
    "datasets[].onBadRow": dataset(onBadRow="skip"),
    "datasets[].maxBadFraction": dataset(onBadRow="skip", maxBadFraction="0.1"),
    "training.objective": training(objective="pt"),
    "training.dpo.beta": training(objective="dpo", dpo={"beta": "0.2"}),
    "training.lora.rank": training(lora={"rank": 16}),
    "training.lora.alpha": training(lora={"alpha": 32}),
    "training.lora.dropout": training(lora={"dropout": "0.1"}),
    "training.lora.targets": training(lora={"targets": ["q_proj"]}),
    "training.lora.variant": training(lora={"variant": "dora"}),
    "training.quantization": training(quantization="nf4"),
    "training.precision": training(precision="fp32"),
    "training.epochs": training(epochs="4"),
    "training.maxSteps": training(epochs=None, maxSteps=10),
    "training.learningRate": training(learningRate="2e-4"),
    "training.scheduler": training(scheduler="linear"),
    "training.warmupRatio": training(warmupRatio="0.2"),
    "training.weightDecay": training(weightDecay="0.2"),
    "training.maxGradNorm": training(maxGradNorm="2"),
    "training.cutoffLength": training(cutoffLength=512),
    "training.maxSamples": training(maxSamples=5),
    "training.sampling": training(sampling="shuffle"),
    "training.deduplicate": training(deduplicate="exact"),
    "training.batchSize": training(batchSize=4),
    "training.batchTokens": training(packing="tokens", batchTokens=4096),
    "training.packing": training(packing="none"),
    "training.learnFrom": training(learnFrom="lastTurn"),
    "training.trainOnPrompt": training(trainOnPrompt=True),
    "training.evaluation.fraction": training(evaluation={"fraction": "0.2"}),
    "training.evaluation.count": training(evaluation={"count": 9}),
    "training.evaluation.dataset": {**dataset(name="rows"), **training(evaluation={"dataset": "rows"})},
    "training.evaluation.groupBy": training(evaluation={"fraction": "0.2", "groupBy": "prompt"}),
    "training.evaluation.everySteps": training(evaluation={"fraction": "0.1", "everySteps": 7}),
    "training.evaluation.gate.metric": training(evaluation={"gate": {"mustImproveBy": "0.1"}}),
    "training.evaluation.gate.mustImproveBy": training(evaluation={"gate": {"mustImproveBy": "0.2"}}),
    "training.checkpoint.every": training(checkpoint={"every": 5}),
    "training.checkpoint.keep": training(checkpoint={"keep": "all"}),
    "training.checkpoint.select": training(checkpoint={"select": "best"}),
    "training.checkpoint.earlyStopping.patience": training(checkpoint={"earlyStopping": {"patience": 3}}),
    "training.checkpoint.earlyStopping.minImprovement": training(
        checkpoint={"earlyStopping": {"minImprovement": "0.01"}}
    ),
    "training.seed": training(seed=1),
    "training.extraArgs": training(extraArgs={"neftune_noise_alpha": "5"}),
    "export.merged.maxShardSize": {"export": {"merged": {"maxShardSize": "1GB"}}},
    "export.merged.checkpoint": {"export": {"merged": {"checkpoint": 5}}},
    "export.publish[].to": {"export": {"merged": {}, "publish": [{"to": "s3://models/a"}]}},
    "export.publish[].connection": {
        "export": {"merged": {}, "publish": [{"to": "s3://models/a", "connection": "store"}]}
    },
    "export.publish[].visibility": {
        "export": {"merged": {}, "publish": [{"to": "s3://models/a", "visibility": "public"}]}
    },
    "export.trackers[].name": {"export": {"trackers": [{"name": "tensorboard"}]}},
    "export.trackers[].experiment": tracked(experiment="others"),
    "export.trackers[].connection": tracked(connection="other"),
    "export.trackers[].entity": tracked(name="wandb", experiment=None, project="runs", entity="team"),
    "export.trackers[].project": tracked(name="wandb", experiment=None, project="runs"),
    "export.configMap.name": {"export": {"configMap": {"name": "tuned"}}},
    "storage.uri": {"storage": {"uri": "s3://bucket/elsewhere"}},
    "storage.connection": {"storage": {"connection": None}},
    **{
        f"resources.{name}.{field}": stage(name, **{field: value})
        for name in ("download", "prepare", "train", "export")
        for field, value in {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}, "scratch": "1Gi"}.items()
    },
    "resources.train.gpu.count": stage("train", gpu={"count": 0}),
    "resources.train.gpu.resourceName": stage("train", gpu={"resourceName": "amd.com/gpu"}),
    "resources.train.gpu.memory": stage("train", gpu={"memory": "80Gi"}),
    "resources.train.nodes": stage("train", nodes=2),
    "resources.train.sharding": stage("train", gpu={"count": 2}, sharding="fsdp2"),
    "resources.train.terminationGracePeriodSeconds": stage("train", terminationGracePeriodSeconds=60),
    "scheduling.queueName": scheduling(queueName="gpus"),
    "scheduling.priorityClassName": scheduling(priorityClassName="batch"),
    "scheduling.nodeSelector": scheduling(nodeSelector={"a": "b"}),
    **{f"scheduling.tolerations[].{field}": scheduling(tolerations=[TOLERATION]) for field in TOLERATION},
    "scheduling.tolerations[].tolerationSeconds": scheduling(
        tolerations=[TOLERATION | {"tolerationSeconds": 5}]
    ),
    "scheduling.serviceAccountName": scheduling(serviceAccountName="tuner"),
    "scheduling.imagePullSecrets[].name": scheduling(imagePullSecrets=[{"name": "pull"}]),
    "activeDeadlineSeconds": {"activeDeadlineSeconds": 60},
    "suspend": {"suspend": True},
    "maxRetries": {"maxRetries": 5},
    "ttlSecondsAfterFinished": {"ttlSecondsAfterFinished": 60},
}

EVALUATED = training(evaluation={"fraction": "0.1"})
BEFORE = {
    path: EVALUATED for path in EDITS if path.endswith((".select", ".patience")) or ".gate." in path
} | {
    "training.checkpoint.earlyStopping.minImprovement": merged(
        EVALUATED, training(checkpoint={"earlyStopping": {"patience": 2}})
    )
}
"""What is there before an edit, where that is more than the usual spec."""

RERUN = {
    "download": ["download", "prepare", "train", "export"],
    "prepare": ["prepare", "train", "export"],
    "train": ["prepare", "train", "export"],
    "export": ["export"],
    "publish": ["export"],
    None: [],
}
"""What runs again after an edit of a field that shapes this stage. Prepare makes the training's key, so
it runs again for it, and hits."""


def owner(path: str) -> str | None:
    """The stage of a field, by the longest declared path that it lies in."""
    declared = [known for known in FIELDS if path == known or path.startswith((f"{known}.", f"{known}["))]
    assert declared, f"{path} is in no key and not declared to be in none"
    return FIELDS[max(declared, key=len)]


MERGED: dict[str, Any] = {"merged": {"maxShardSize": "2GB"}}


@pytest.mark.parametrize("path", [path for path in EDITS if owner(path) == "publish"])
def test_the_merged_model_is_the_same_wherever_it_is_published(path: str) -> None:
    """The export runs again, finds it, and publishes it."""
    exports: list[dict[str, Any]] = [{}, EDITS[path]["export"]]
    one, other = ({"export": merged(MERGED, export)} for export in exports)
    assert key("export", one, {}) == key("export", other, {})


def test_another_size_of_shards_is_another_merged_model() -> None:
    one, other = ({"export": {"merged": {"maxShardSize": size}}} for size in ("1GB", "2GB"))
    assert key("export", one, {}) != key("export", other, {})


def test_every_field_of_the_resource_is_edited_here() -> None:
    assert set(EDITS) == {path for path, _ in walk(LoRAFineTuneSpec)}


@pytest.mark.parametrize("path", EDITS)
def test_an_edit_is_one(path: str) -> None:
    given = merged(SPEC, BEFORE.get(path, {}))
    before, after = (LoRAFineTuneSpec.decode(merged(given, edit)) for edit in ({}, EDITS[path]))
    assert before != after


def test_every_declared_field_exists() -> None:
    paths = [path for path, _ in walk(LoRAFineTuneSpec)]
    missing = [known for known in FIELDS if not any(path.startswith(known) for path in paths)]
    assert missing == []


@pytest.mark.parametrize("path", EDITS)
def test_an_edit_re_runs_exactly_the_stages_that_it_touches(path: str) -> None:
    world = World(BEFORE.get(path))
    world.run_to_end()
    before = len(world.created)
    world.edit(EDITS[path])
    world.run_to_end()
    assert world.stages_run()[before:] == RERUN[owner(path)]


def test_a_base_is_evaluated_anew_for_another_model_other_rows_and_another_precision() -> None:
    read = {"model": "m", "rows": "r", "precision": "bf16"}
    others = [{**read, name: "other"} for name in read]
    assert len({evaluation_key(**each) for each in (read, *others)}) == 4


SAME_KEY = {
    "a learning rate in another spelling": (training(learningRate="1e-4"), training(learningRate="0.0001")),
    "epochs with a trailing zero": (training(epochs="3"), training(epochs="3.0")),
    "an extra argument that changes no result": (
        training(),
        training(extraArgs={"logging_steps": "5"}),
    ),
    "a least improvement in another spelling": (
        training(
            evaluation={"fraction": "0.1"},
            checkpoint={"earlyStopping": {"patience": 2, "minImprovement": "1e-2"}},
        ),
        training(
            evaluation={"fraction": "0.1"},
            checkpoint={"earlyStopping": {"patience": 2, "minImprovement": "0.010"}},
        ),
    ),
    "another number of GPUs": (stage("train", gpu={"count": 1}), stage("train", gpu={"count": 4})),
}


@pytest.mark.parametrize("sentence", SAME_KEY)
def test_the_key_is_the_same_for(sentence: str) -> None:
    one, other = (LoRAFineTuneSpec.decode(merged(SPEC, c)).encode() for c in SAME_KEY[sentence])
    assert key("train", one, {}) == key("train", other, {})


def test_a_resolved_value_replaces_auto() -> None:
    auto, fixed = ({"training": {"precision": p}} for p in ("auto", "bf16"))
    resolved = {"training.precision": "bf16"}
    assert key("train", auto, {}, resolved) == key("train", fixed, {}, resolved)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, 8, id="the usual number"),
        pytest.param({"batch_size": 3}, 3, id="a number"),
        pytest.param({"packing": "tokens", "batch_tokens": 4096}, None, id="as many as the tokens hold"),
    ],
)
def test_the_rows_of_a_step(fields: dict[str, Any], expected: int | None) -> None:
    assert resolved_batch_size(Training(epochs="1", **fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, "documents", id="usually, those of a step"),
        pytest.param({"packing": "none"}, "none", id="as it is asked for"),
        pytest.param({"extra_args": {"neftune_noise_alpha": "5"}}, "none", id="not with such noise"),
        pytest.param({"objective": "dpo"}, "none", id="not pairs"),
        pytest.param({"packing": "tokens", "batch_tokens": 4096}, "tokens", id="steps of tokens"),
    ],
)
def test_what_is_packed(fields: dict[str, Any], expected: str) -> None:
    assert resolved_packing(Training(epochs="1", **fields)) == expected


def test_every_precision_makes_another_training() -> None:
    specs = [{"training": {"precision": precision}} for precision in ("bf16", "fp16", "fp32", "fp8")]
    assert len({key("train", spec, {}) for spec in specs}) == len(specs)
    assert len({key("prepare", spec, {}) for spec in specs}) == 1


def test_a_resource_of_before_there_were_objectives_has_the_key_of_sft() -> None:
    spec = LoRAFineTuneSpec.decode(SPEC).encode()
    before = {
        **spec,
        "training": {name: spec["training"][name] for name in spec["training"] if name != "objective"},
    }
    assert spec["training"]["objective"] == "sft"
    assert key("prepare", spec, {}) == key("prepare", before, {})
    assert key("prepare", {"training": {"objective": "pt"}}, {}) != key("prepare", {"training": {}}, {})


def test_a_base_that_is_not_quantised_has_the_key_of_before_one_could_be() -> None:
    before, none, nf4 = (
        key("train", {"training": fields}, {})
        for fields in ({}, {"quantization": "none"}, {"quantization": "nf4"})
    )
    assert before == none != nf4


def test_a_training_that_is_selected_or_stops_by_its_evaluations_is_another_and_no_other_has_a_new_key() -> (
    None
):
    usual: list[dict[str, Any]] = [{}, {"every": "epoch", "keep": 2}, {"select": "last"}]
    others: list[dict[str, Any]] = [{"select": "best"}, {"earlyStopping": {"patience": 2}}]
    before = key("train", training(), {})
    assert {key("train", training(checkpoint=checkpoint), {}) for checkpoint in usual} == {before}
    made = {
        key("train", training(checkpoint=checkpoint), {}) for checkpoint in (*others, others[0] | others[1])
    }
    assert len(made - {before}) == 3


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    one, other = ({"datasets": [{"system": s}]} for s in ("1.0", "1"))
    assert key("prepare", one, {}) != key("prepare", other, {})


def test_the_order_of_datasets_is_in_the_key() -> None:
    one, other = ({"datasets": [{"format": f} for f in order]} for order in (["a", "b"], ["b", "a"]))
    assert key("prepare", one, {}) != key("prepare", other, {})


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4))
def test_a_key_does_not_depend_on_the_order_of_what_is_read(reads: dict[str, str]) -> None:
    assert key("train", {}, reads) == key("train", {}, dict(reversed(reads.items())))


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_two_sources_never_share_a_key(a: str, b: str, c: str, d: str) -> None:
    assert (source_key(a, b) == source_key(c, d)) == ((a, b) == (c, d))


@pytest.mark.parametrize("stage", SEMANTICS)
def test_what_a_version_makes_otherwise_has_another_key(
    stage: StageName, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each: key(each, {}, {}) for each in SEMANTICS}
    monkeypatch.setitem(SEMANTICS, stage, SEMANTICS[stage] + 1)
    assert {each for each in SEMANTICS if key(each, {}, {}) != before[each]} == {stage}

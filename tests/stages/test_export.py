"""The merge of a tiny model, held against LLaMA-Factory's own export of the same adapter."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import place
from lorafinetune.contract.outcome import ExportResult, StageError
from stages.train_builders import World, tiny_model, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

MERGED = Export.decode({"merged": {}})
IN_SHARDS = Export.decode({"merged": {"maxShardSize": "1MB"}})
WIDE = {"hidden_size": 192, "intermediate_size": 512}
"""Weights of 1.7 MB in bf16."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A wide model, trained for two steps at a rate that moves its weights."""
    root = tmp_path_factory.mktemp("trained")
    made = world(root, model=tiny_model(root / "wide", **WIDE), epochs=None, maxSteps=2)
    made.train()
    return made


def directory(made: World, result: ExportResult) -> Path:
    return made.store.root / place("exports", result.key)


def peer_export(model: Path, adapter: Path, output: Path) -> dict[str, Any]:
    """LLaMA-Factory's merge of an adapter: tensors by name."""
    from llamafactory.train.tuner import export_model

    export_model(
        {
            "model_name_or_path": str(model),
            "adapter_name_or_path": str(adapter),
            "template": "smollm2",
            "finetuning_type": "lora",
            "export_dir": str(output),
            "export_device": "cpu",
            "trust_remote_code": False,
        }
    )
    return load(output)


def load(output: Path) -> dict[str, Any]:
    """All tensors of a directory, by name."""
    from safetensors.torch import load_file

    return {name: tensor for path in output.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    import torch

    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        pytest.param({}, {}, id="LoRA"),
        pytest.param({}, {"lora": {"variant": "rslora"}}, id="rank-stabilised LoRA"),
        pytest.param({}, {"lora": {"variant": "dora"}}, id="DoRA"),
        pytest.param({}, {"lora": {"targets": ["q_proj", "down_proj"]}}, id="some of the layers"),
        pytest.param({"tie_word_embeddings": False}, {}, id="a head of its own"),
        pytest.param({"attention_bias": True}, {}, id="layers with a bias"),
    ],
)
def test_every_tensor_is_that_of_llamafactory(
    tmp_path: Path, shape: dict[str, Any], fields: dict[str, Any]
) -> None:
    model = tiny_model(tmp_path / "base", **shape)
    made = world(tmp_path, model=model, epochs=None, maxSteps=2, learningRate="5e-2", **fields)
    made.train()
    ours = load(directory(made, made.export(MERGED)))
    assert_equal(ours, peer_export(model, made.place / "adapter", tmp_path / "peer"))
    changed = [name for name, tensor in load(model).items() if not ours[name].equal(tensor)]
    assert changed
    assert all(name.endswith("_proj.weight") for name in changed)


def test_a_large_model_is_cut_into_shards_that_load_as_one(trained: World, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    result = trained.export(IN_SHARDS)
    merged = directory(trained, result)
    shards = sorted(merged.glob("*.safetensors"))
    assert [path.name for path in shards] == [
        f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)
    ]
    assert len(shards) == 2
    assert all(path.stat().st_size < 1_010_000 for path in shards)
    theirs = peer_export(trained.root / "wide", trained.place / "adapter", tmp_path)
    assert_equal(load(merged), theirs)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert torch.equal(
        model.state_dict()["model.layers.1.mlp.down_proj.weight"],
        theirs["model.layers.1.mlp.down_proj.weight"],
    )


def test_a_base_of_several_files_is_merged_alike(trained: World, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    base = tiny_model(tmp_path / "base", **WIDE)
    LlamaForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "cut", max_shard_size="1MB")
    for path in base.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "cut" / path.name).write_bytes(path.read_bytes())
    made = world(tmp_path, model=tmp_path / "cut", epochs=None, maxSteps=2)
    made.train()
    assert_equal(load(directory(made, made.export(MERGED))), load(directory(trained, trained.export(MERGED))))


def test_a_base_in_fp32_stays_in_fp32(tmp_path: Path) -> None:
    """LLaMA-Factory would round it to half precision."""
    import torch
    from transformers import LlamaForCausalLM

    base = tiny_model(tmp_path / "base")
    LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).save_pretrained(base)
    made = world(tmp_path, model=base, epochs=None, maxSteps=2)
    made.train()
    ours = load(directory(made, made.export(MERGED)))
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    delta = ours["model.layers.0.mlp.up_proj.weight"] - load(base)["model.layers.0.mlp.up_proj.weight"]
    assert float(delta.abs().max()) > 0


def test_everything_but_weights_and_card_is_the_bases_byte_for_byte(trained: World) -> None:
    result = trained.export(MERGED)
    merged = directory(trained, result)
    base = {path.name: path.read_bytes() for path in (trained.root / "wide").iterdir()}
    ours = {path.name: path.read_bytes() for path in merged.iterdir() if path.name != "manifest.json"}
    assert ours.keys() == base.keys()
    assert {name for name in ours if ours[name] != base[name]} == {"README.md", "model.safetensors"}


def test_the_manifest_says_what_the_model_was_made_of(trained: World) -> None:
    result = trained.export(MERGED)
    manifest = json.loads((directory(trained, result) / "manifest.json").read_text())
    adapter = trained.train().adapter
    assert manifest["lineage"]["adapter"] == adapter.digest
    assert manifest["lineage"]["model"]["source"] == "example/tiny"
    assert manifest["lineage"]["training"] == trained.manifest().lineage
    assert result.merged is not None
    assert result.merged.digest == manifest["digest"]
    assert result.merged.uri == f"s3://bucket/runs/exports/{result.key}"
    card = (directory(trained, result) / "README.md").read_text()
    assert "base_model: example/tiny" in card
    assert adapter.digest in card


def test_no_file_holds_a_path_of_the_machine(trained: World) -> None:
    trained.export(MERGED)
    names = [str(trained.root).encode(), str(Path.home()).encode(), b"scratch-"]
    files = [path for path in (trained.store.root / "exports").rglob("*") if path.is_file()]
    assert [path for path in files if any(name in path.read_bytes() for name in names)] == []


def test_a_finished_export_is_found(trained: World) -> None:
    first = trained.export(IN_SHARDS)
    assert trained.export(IN_SHARDS) == first.model_copy(update={"cache_hit": True})


def test_without_a_merge_there_is_nothing_to_do(trained: World) -> None:
    result = trained.export(Export())
    assert (result.merged, result.cache_hit) == (None, False)


def test_progress_is_in_bytes_of_weights(tmp_path: Path) -> None:
    made = world(tmp_path, epochs=None, maxSteps=1)
    made.train()
    made.export(MERGED)
    progress = made.progress()
    weights = sum(tensor.nbytes for tensor in load(made.root / "tiny").values())
    assert (progress.activity, progress.unit) == ("merging", "bytes")
    assert (progress.done, progress.total) == (weights, weights)


def test_a_base_that_is_not_what_the_manifest_says_becomes_no_export(tmp_path: Path) -> None:
    made = world(tmp_path, epochs=None, maxSteps=1)
    made.train()
    (weights,) = made.store.root.glob("models/*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StageError) as failed:
        made.export(MERGED)
    assert failed.value.reason is Reason.ARTIFACT_CORRUPT
    assert failed.value.message.endswith("the file model.safetensors does not match manifest.json")
    assert list(made.store.root.glob("exports/*/manifest.json")) == []

"""What an export is refused for: an adapter or a base model that can't be merged."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import place
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest, read_manifest
from lorafinetune_stages.store.transfer import upload_tree
from stages.test_export import MERGED
from stages.train_builders import World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


def test_an_adapter_that_is_gone_is_told_even_without_a_merge(tmp_path: Path) -> None:
    missing = "f" * 64
    with pytest.raises(StageError) as failed:
        world(tmp_path).export(Export(), trained=missing)
    assert failed.value.reason is Reason.ARTIFACT_CORRUPT
    assert failed.value.message == (
        f"s3://bucket/runs/trainings/{missing}: the training is not complete: "
        "files were removed after the stage that made it"
    )


def _rename_layers(adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace(".self_attn.", ".attention."): tensor for name, tensor in tensors.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")


def _narrow(adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {
            name: tensor[:, :8].contiguous() if "lora_A" in name else tensor
            for name, tensor in tensors.items()
        },
        adapter / "adapter_model.safetensors",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            _rename_layers,
            "export.merged: the adapter tunes model.layers.0.attention.k_proj, which the base model "
            "does not have: it can't be merged",
            id="a layer that the base does not have",
        ),
        pytest.param(
            _narrow,
            "export.merged: the adapter tunes model.layers.0.mlp.down_proj, whose weight is BF16 "
            "of (32, 48): it can't be merged",
            id="an adapter of another shape",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    made = world(tmp_path, epochs=None, maxSteps=1)
    made.train()
    change(made.place / "adapter")
    _describe_anew(made)
    with pytest.raises(StageError) as refused:
        made.export(MERGED)
    assert refused.value.reason is Reason.MODEL_UNSUPPORTED
    assert refused.value.message == message


def _describe_anew(made: World) -> None:
    """Makes the changed adapter the one that the manifest speaks of."""
    where, before = place("trainings", made.arguments.key), made.manifest()
    made.store.delete(f"{where}/manifest.json")
    files = upload_tree(
        made.store, (made.place / "adapter").rename(made.root / "changed"), f"{where}/adapter"
    )
    kept = [file for file in before.files if not file.path.startswith("adapter/")]
    inside = [file.model_copy(update={"path": f"adapter/{file.path}"}) for file in files]
    commit_manifest(made.store, where, "trainings", before.key, kept + inside, before.lineage, before.result)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    made = world(tmp_path, epochs=None, maxSteps=1)
    made.train()
    (config,) = made.store.root.glob("models/*/config.json")
    config.write_text(config.read_text() + "\n")
    with pytest.raises(StageError) as refused:
        _forget_sizes(made, config).export(MERGED)
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert refused.value.message == (
        f"s3://bucket/runs/trainings/{made.arguments.key}: the adapter was trained on another model than "
        f"models/{config.parent.name}"
    )


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    made = world(tmp_path, epochs=None, maxSteps=1)
    made.train()
    (config,) = made.store.root.glob("models/*/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {}}))
    with pytest.raises(StageError) as refused:
        _forget_sizes(made, config).export(MERGED)
    assert refused.value.reason is Reason.MODEL_UNSUPPORTED
    assert refused.value.message == (
        "export.merged: the base model is quantised, and a merge needs its full weights"
    )


def _forget_sizes(made: World, config: Path) -> World:
    """Makes the changed file the one that the manifest speaks of."""
    where = f"models/{config.parent.name}"
    manifest = read_manifest(made.store, where)
    assert manifest is not None
    made.store.delete(f"{where}/manifest.json")
    size = config.stat().st_size
    files = [
        ManifestFile(path=file.path, size=size, sha256=file.sha256) if file.path == config.name else file
        for file in manifest.files
    ]
    commit_manifest(made.store, where, "models", manifest.key, files, {}, None)
    return made

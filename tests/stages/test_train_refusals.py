"""What a training is refused for, or fails for: each with its reason, and the field that a person mends."""

import re
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from stages.train_builders import ROWS, World, own_words, tiny_model, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("refusals"))


@pytest.mark.parametrize(
    ("fields", "reason", "message", "hint"),
    [
        pytest.param(
            {"precision": "fp16"},
            Reason.CONFIG_INVALID,
            "training.precision: fp16 needs a GPU, and resources.train.gpu.count is 0",
            "Set `spec.training.precision` to bf16 or fp32.",
            id="fp16 on the CPU",
        ),
        pytest.param(
            {"precision": "fp8"},
            Reason.CONFIG_INVALID,
            "training.precision: fp8 needs a GPU, and resources.train.gpu.count is 0",
            "Set `spec.training.precision` to bf16 or fp32.",
            id="fp8 on the CPU",
        ),
        pytest.param(
            {"lora": {"targets": ["q_proj", "query"]}},
            Reason.CONFIG_INVALID,
            "training.lora.targets: no layer of the model is named 'query'",
            "The model's layers are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; "
            "`all` means every one.",
            id="one of two targets that is no layer",
        ),
        pytest.param(
            {"lora": {"targets": ["lm_head"]}},
            Reason.CONFIG_INVALID,
            "training.lora.targets: the output head can't be tuned",
            Reason.CONFIG_INVALID.facts.hint,
            id="the output head as a target",
        ),
        pytest.param(
            {"lora": {"targets": ["q_proj", "embed_tokens"]}},
            Reason.CONFIG_INVALID,
            "training.lora.targets: the input embedding can't be tuned",
            Reason.CONFIG_INVALID.facts.hint,
            id="the embedding as a target",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_named(
    made: World, fields: dict[str, Any], reason: Reason, message: str, hint: str
) -> None:
    with pytest.raises(StageError) as refused:
        made.training(**fields).train()
    assert (refused.value.reason, refused.value.message, refused.value.hint) == (reason, message, hint)


@pytest.mark.parametrize(
    ("fields", "beginning"),
    [
        pytest.param(
            {"lora": {"targets": ["query"]}},
            "training.lora.targets: Target modules {'query'} not found in the base model.",
            id="no target is a layer",
        ),
        pytest.param(
            {"lora": {"targets": ["input_layernorm"]}},
            "training.lora.targets: Target module LlamaRMSNorm",
            id="a target that is no linear layer",
        ),
    ],
)
def test_a_refusal_of_the_libraries_names_the_field(
    made: World, fields: dict[str, Any], beginning: str
) -> None:
    with pytest.raises(StageError) as refused:
        made.training(**fields).train()
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert refused.value.message.startswith(beginning)


def test_a_device_that_is_not_there_is_told_before_anything_is_downloaded(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    scratch = set(made.root.glob("scratch-*/*"))
    with pytest.raises(StageError) as refused:
        made.training(seed=7).train(gpus=1)
    assert refused.value.reason is Reason.GPU_UNAVAILABLE
    assert refused.value.message == "resources.train.gpu.count: a GPU is asked for, and torch sees none"
    assert set(made.root.glob("scratch-*/*")) == scratch


def test_a_loss_that_is_no_number_ends_the_training_at_its_step(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = tiny_model(tmp_path / "broken") / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, weights, metadata={"format": "pt"})
    made = world(tmp_path, model=tmp_path / "broken", checkpoint={"every": 1})
    with pytest.raises(StageError) as failed:
        made.train()
    assert failed.value.reason is Reason.LOSS_DIVERGED
    assert failed.value.message == "the loss is nan at step 1 of 6"
    assert made.checkpoints() == []


def test_a_training_that_diverges_leaves_its_last_good_checkpoint(tmp_path: Path) -> None:
    made = world(tmp_path, learningRate="1e30", checkpoint={"every": 1})
    with pytest.raises(StageError) as failed:
        made.train()
    assert failed.value.reason is Reason.LOSS_DIVERGED
    newest = made.checkpoints()[-1]
    assert re.fullmatch(f"the loss is (nan|inf) at step {newest + 1} of 6", failed.value.message)


def test_a_training_whose_loss_explodes_keeps_the_checkpoint_from_before(tmp_path: Path) -> None:
    """Its loss is always a number."""
    wide = {"hidden_size": 128, "initializer_range": 1.0, "tie_word_embeddings": False}
    model = tiny_model(tmp_path / "model", **wide)
    too_fast: dict[str, Any] = {"learningRate": "1", "scheduler": "constant", "warmupRatio": "0"}
    saved = {"every": 1, "keep": 1}
    rows = own_words(model, ROWS)
    made = world(tmp_path, model, rows, epochs=None, maxSteps=24, checkpoint=saved, **too_fast)
    with pytest.raises(StageError) as failed:
        made.train()
    assert failed.value.reason is Reason.LOSS_DIVERGED
    pattern = (
        r"the loss is \d\d\.\d at step 11 of 24, and was above 10 in 10 steps one after another; it began .*"
    )
    assert re.fullmatch(pattern, failed.value.message)
    assert made.checkpoints() == [1]


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        pytest.param("models", "the base model", id="the base model"),
        pytest.param("prepared", "the prepared dataset", id="the prepared dataset"),
    ],
)
def test_an_input_that_is_gone_is_named(tmp_path: Path, lost: str, what: str) -> None:
    made = world(tmp_path)
    (directory,) = (made.store.root / lost).iterdir()
    (directory / "manifest.json").unlink()
    with pytest.raises(StageError) as failed:
        made.train()
    assert failed.value.reason is Reason.ARTIFACT_CORRUPT
    assert failed.value.message == (
        f"s3://bucket/runs/{lost}/{directory.name}: {what} is not complete: "
        "files were removed after the stage that made it"
    )


def test_a_weight_that_was_altered_in_the_store_is_not_trained_on(tmp_path: Path) -> None:
    made = world(tmp_path)
    (weights,) = made.store.root.glob("models/*/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StageError, match=r"the file model\.safetensors does not match") as failed:
        made.train()
    assert failed.value.reason is Reason.ARTIFACT_CORRUPT

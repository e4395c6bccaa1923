"""Conversations in one row without padding teach what they teach padded, and no more of each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from llamafactory.train.sft import workflow
from peft import LoraConfig, get_peft_model
from transformers import GlmConfig, GlmForCausalLM, LlamaConfig, LlamaForCausalLM

from lorafinetune_stages.train import seams
from lorafinetune_stages.train.levers import PLAIN, Levers
from lorafinetune_stages.train.packing import Packer
from stages.train_builders import VOCABULARY, World, random_rows, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

FAST = Levers(packing=True, learned_loss=True, direct_lora=True)
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "glm": lambda: GlmForCausalLM(GlmConfig(**SHAPE, attention_bias=True)),
}
"""In fp32."""


def tuned(family: str) -> Any:
    """A PeftModel whose adapter already does something, the same each time."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(MODELS[family](), lora)


def padded(rows: list[Any]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fillers = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([[*row[name], *[filler] * (longest - len(row[name]))] for row in rows])
        for name, filler in fillers.items()
    }


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    loss = model(**batch).loss
    loss.backward()
    return float(loss), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("multiple", [1, 64], ids="filled to a multiple of {}".format)
@pytest.mark.parametrize("family", MODELS)
def test_packed_and_padded_have_the_same_loss_and_gradients(family: str, multiple: int) -> None:
    rows = random_rows(5)
    packed = Packer(24, multiple)([{name: torch.tensor(row[name]).numpy() for name in row} for row in rows])
    packed.pop("tokens")
    loss, gradients = loss_and_gradients(seams.accelerated(tuned(family), FAST), packed)
    expected, reference = loss_and_gradients(tuned(family), padded(rows))
    assert loss == pytest.approx(expected, rel=1e-6)
    for name, gradient in reference.items():
        difference = torch.linalg.vector_norm(gradients[name] - gradient)
        assert difference <= 1e-5 * torch.linalg.vector_norm(gradient), name


def test_a_conversation_sees_nothing_of_the_one_before_it() -> None:
    model = seams.accelerated(tuned("llama"), FAST)
    first, other, second = random_rows(3)
    losses = []
    for before in (first, other):
        rows = [{**before, "labels": [-100] * len(before["labels"])}, second]
        packed = Packer(24)([{name: torch.tensor(row[name]).numpy() for name in row} for row in rows])
        packed.pop("tokens")
        losses.append(float(model(**packed).loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@contextmanager
def with_levers(levers: Levers, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr("lorafinetune_stages.train.stage.choose", lambda _: (levers, {}))
        yield


def test_whole_trainings_agree_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same conversations in the same order, three steps an epoch, the last one of half a batch."""
    made: World = world(tmp_path, precision="fp32", lora={"dropout": "0"}, learningRate="1e-3")
    curves = {}
    for levers in (FAST, PLAIN):
        again = made.copy(tmp_path / repr(levers.packing))
        with with_levers(levers, monkeypatch):
            again.train()
        curves[levers] = [(row["tokens"], row["loss"], row["grad_norm"]) for row in again.metrics()]
        assert again.manifest().lineage["levers"] == levers.names()
    for packed, plain in zip(curves[FAST], curves[PLAIN], strict=True):
        assert packed == pytest.approx(plain, rel=1e-5)


def test_every_name_that_is_replaced_is_there_and_comes_back() -> None:
    before = dict(vars(workflow))
    with seams.replaced(FAST, 24):
        replaced = {name for name in before if vars(workflow)[name] is not before[name]}
        assert replaced == {
            "CustomSeq2SeqTrainer",
            "SFTDataCollatorWith4DAttentionMask",
            "get_dataset",
            "load_model",
        }
    assert dict(vars(workflow)) == before


def test_a_lever_that_does_not_take_hold_is_no_silent_matter() -> None:
    model = tuned("llama")
    for module in model.modules():
        if hasattr(module, "lora_variant"):
            module.lora_variant["default"] = object()
    with pytest.raises(RuntimeError, match="no layer of the adapter"):
        seams.accelerated(model, FAST)

"""The real small model: trained for a few steps, merged, and held against LLaMA-Factory's export."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.contract.arguments import place
from stages.peer import smollm2_sample
from stages.test_export import assert_equal, load, peer_export
from stages.train_builders import Row, World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

QUESTION = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "I am EmoLLM, a counsellor.<|im_end|>\n"


@pytest.fixture(scope="module")
def model() -> Path:
    """Directory of SmolLM2-135M-Instruct."""
    directory: Path = smollm2_sample().converted()
    return directory


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = world(
        tmp_path_factory.mktemp("smollm2"),
        model=model,
        rows=[conversation(model)] * 4,
        epochs=None,
        maxSteps=6,
        batchSize=2,
        learningRate="1e-3",
        lora={"rank": 8, "alpha": 16, "dropout": "0"},
    )
    made.train()
    return made


def conversation(model: Path) -> Row:
    """One question and its answer, of which the answer is learned."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    question, answer = (tokenizer.encode(text, add_special_tokens=False) for text in (QUESTION, ANSWER))
    tokens = question + answer
    labels = [-100] * len(question) + answer
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}


def test_the_model_learns_the_answer(trained: World) -> None:
    losses = [row["loss"] for row in trained.metrics()]
    assert losses[0] > 1
    assert losses[-1] < losses[0] / 2


def test_packed_and_padded_conversations_have_the_same_losses(model: Path, tmp_path: Path) -> None:
    """One conversation is three times as long as the other, so half of a padded pair is padding."""
    short = conversation(model)
    long = {name: short[name] * 3 for name in short}
    exact = {"epochs": None, "maxSteps": 2, "batchSize": 2, "precision": "fp32", "lora": {"dropout": "0"}}
    losses = {}
    made = world(tmp_path, model=model, rows=[short, long])
    for packing in ("auto", "none"):
        run = made.training(**exact, packing=packing)
        run.train()
        losses[packing] = [row["loss"] for row in run.metrics()]
    assert losses["auto"] == pytest.approx(losses["none"], rel=1e-5)
    assert losses["auto"][1] < losses["auto"][0]


def test_the_adapter_changes_the_answer_in_peft_and_merged_alike(trained: World, model: Path) -> None:
    """Alike but for one rounding of the merged weights to bf16."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    merged = merged_directory(trained)
    base = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
    before = answer_loss(base, model)
    tuned = PeftModel.from_pretrained(base, trained.place / "adapter")
    with_adapter = answer_loss(tuned, model)
    with_merge = answer_loss(AutoModelForCausalLM.from_pretrained(merged, dtype="float32"), model)
    assert with_adapter < before / 2
    assert with_merge == pytest.approx(with_adapter, rel=0.15)  # the merge rounds once, to bf16


def test_every_merged_tensor_is_that_of_llamafactory(trained: World, model: Path, tmp_path: Path) -> None:
    assert_equal(load(merged_directory(trained)), peer_export(model, trained.place / "adapter", tmp_path))


def test_tokenizer_and_template_are_the_bases_bytes(trained: World, model: Path) -> None:
    merged = merged_directory(trained)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (merged / name).read_bytes() == (model / name).read_bytes()
    assert json.loads((merged / "config.json").read_text()) == json.loads((model / "config.json").read_text())


def merged_directory(trained: World) -> Path:
    result = trained.export(Export.decode({"merged": {}}))
    return trained.store.root / place("exports", result.key)


def answer_loss(tuned: Any, model: Path) -> float:
    from lorafinetune_stages.train.evaluation import evaluate
    from lorafinetune_stages.train.fit import Fit
    from lorafinetune_stages.train.plan import TrainingPlan
    from lorafinetune_stages.train.process_group import ALONE

    losses = evaluate(tuned, [conversation(model)], lambda: False, TrainingPlan(Fit(1, 1, False)), ALONE)
    assert losses
    return losses.loss

"""The adapter's card: what it says of its base, and how it is loaded."""

from typing import Any

import pytest
import yaml

from lorafinetune.api.status import DatasetStatus, ModelStatus, TrainingStatus
from lorafinetune.api.training import Training
from lorafinetune_stages.train.card import adapter_card

DATASET = DatasetStatus(rows=10, tokens=200, learned_tokens=120, digest="e" * 64, report="")
ENDED = TrainingStatus(step=90, total_steps=90)
CONFIG = {"lora_rank": 8, "learning_rate": 1e-4, "template": "glm4"}


def card(source: str, ended: TrainingStatus = ENDED, **training: Any) -> str:
    model = ModelStatus(source=source, revision="c0ffee", digest="d" * 64, bytes=1)
    return adapter_card(model, DATASET, CONFIG, Training(epochs="1", **training), ended)


def test_the_card_says_which_steps_the_adapter_has_learned_from() -> None:
    ended = TrainingStatus(step=30, total_steps=90, stopped_early=True, best_step=20)
    lines = card("hf://owner/glm", ended).splitlines()
    assert "| stopped early after step | 30 of 90 |" in lines
    assert "| adapter of step, which has the lowest loss on held-out rows | 20 of 30 |" in lines
    assert not [line for line in card("hf://owner/glm").splitlines() if "step |" in line and " of " in line]


@pytest.mark.parametrize(
    ("source", "title", "head", "load"),
    [
        pytest.param(
            "hf://owner/glm",
            "# LoRA adapter for glm",
            "owner/glm",
            'from_pretrained("owner/glm", revision="c0ffee", dtype="auto")',
            id="a hub's model is loaded by its id and commit",
        ),
        pytest.param(
            "s3://bucket/models/glm",
            "# LoRA adapter for glm",
            None,
            'from_pretrained("PATH OF THE BASE MODEL", dtype="auto")',
            id="another is loaded from wherever it is",
        ),
    ],
)
def test_the_base(source: str, title: str, head: str | None, load: str) -> None:
    text = card(source)
    assert title in text
    assert load in text
    assert yaml.safe_load(text.split("---\n")[1]).get("base_model") == head


def test_the_settings_and_the_data_are_shown() -> None:
    lines = card("hf://owner/glm", batch_size=16).splitlines()
    assert "| tokens in them, learned from | 200, 120 |" in lines
    assert "| conversations in one optimizer step | 16 |" in lines
    assert "| learning_rate | 0.0001 |" in lines
    assert not [line for line in lines if "max_steps" in line]


@pytest.mark.parametrize(
    ("training", "line"),
    [
        pytest.param({}, "| conversations in one optimizer step | 8 |", id="of the usual number"),
        pytest.param({"objective": "pt"}, "| rows of text in one optimizer step | 8 |", id="of texts"),
        pytest.param(
            {"packing": "tokens", "batch_tokens": 4096},
            "| tokens in one optimizer step | at most 4096 |",
            id="of tokens",
        ),
    ],
)
def test_a_step(training: dict[str, Any], line: str) -> None:
    assert line in card("hf://owner/glm", **training).splitlines()

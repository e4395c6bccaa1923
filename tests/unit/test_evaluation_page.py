"""The page about evaluation: its examples are valid, and have what they are about."""

import re
from pathlib import Path

import yaml

from builders import resource
from lorafinetune.api.spec import EarlyStopping, Gate, Training

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "evaluation.md").read_text()


def examples() -> list[Training]:
    found = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [resource(yaml.safe_load(example)).spec.training for example in found]


def test_the_examples_are_valid() -> None:
    best, early, gated = examples()
    assert best.checkpoint.select == "best"
    assert early.checkpoint.early_stopping == EarlyStopping(patience=3, min_improvement="0.005")
    assert gated.evaluation
    assert gated.evaluation.gate == Gate(must_improve_by="0.02")

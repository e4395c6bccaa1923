"""The page about evaluation: its examples are valid, and have what they are about."""

import re
from pathlib import Path

import yaml

from builders import resource
from lorafinetune.api.evaluation import Gate
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.training import EarlyStopping

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "evaluation.md").read_text()


def examples() -> list[LoRAFineTuneSpec]:
    found = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [resource(yaml.safe_load(example)).spec for example in found]


def test_the_examples_are_valid() -> None:
    best, kept, early, gated = examples()
    assert best.training.checkpoint.select == "best"
    assert kept.training.checkpoint.keep == "all"
    assert kept.export.merged
    assert kept.export.merged.checkpoint == 120
    assert early.training.checkpoint.early_stopping == EarlyStopping(patience=3, min_improvement="0.005")
    assert gated.training.evaluation
    assert gated.training.evaluation.gate == Gate(must_improve_by="0.02")

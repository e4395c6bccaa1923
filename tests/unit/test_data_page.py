"""The page about data says what is so: its examples are valid, and its formats are all that there are."""

import re
from pathlib import Path

import pytest
import yaml

from builders import resource
from lorafinetune.contract.effort import MUCH_EVALUATION
from lorafinetune_stages.prepare.cleaning import Cleaner
from lorafinetune_stages.prepare.findings import Kind
from lorafinetune_stages.prepare.formats import FORMATS
from lorafinetune_stages.prepare.output import MAX_WARNINGS_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text()
SPLITS, ROWS, STEPS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", [SPLITS, ROWS], ids=["of splits", "of rows"])
def test_the_examples_of_datasets_are_valid(example: str) -> None:
    spec = resource(yaml.safe_load(example)).spec
    assert spec.training.evaluation
    assert spec.training.evaluation.dataset in {dataset.name for dataset in spec.datasets}
    for dataset in spec.datasets:
        Cleaner(dataset.clean, "clean")


def test_the_example_of_steps_is_valid() -> None:
    assert resource(yaml.safe_load(STEPS)).spec.training.batch_tokens == 8192


def test_every_format_has_its_line() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| `\{", PAGE, flags=re.MULTILINE)) == set(FORMATS)


def test_every_kind_of_bad_row_has_its_line() -> None:
    _, _, kinds = PAGE.partition("\n## Kinds of bad rows\n")
    table, _, _ = kinds.partition("\n## ")
    assert re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE) == list(Kind)


def test_what_it_says_of_warnings_is_what_the_code_does() -> None:
    assert f"room for {MAX_WARNINGS_BYTES} bytes of warnings" in PAGE
    assert f"said from {MUCH_EVALUATION:.0%} on".replace("%", " %") in PAGE

"""The page about data says what is so: its example is valid, and its formats are all that there are."""

import re
from pathlib import Path

import yaml

from builders import resource
from lorafinetune_stages.prepare.cleaning import Cleaner
from lorafinetune_stages.prepare.formats import FORMATS

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text()


def test_the_example_is_valid() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    spec = resource(yaml.safe_load(example)).spec
    assert spec.training.evaluation
    assert spec.training.evaluation.dataset in {dataset.name for dataset in spec.datasets}
    for dataset in spec.datasets:
        Cleaner(dataset.clean, "clean")


def test_every_format_has_its_line() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| `\{", PAGE, flags=re.MULTILINE)) == set(FORMATS)

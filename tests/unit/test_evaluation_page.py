"""The page about evaluation: its example is valid, and has the gate that it is about."""

import re
from pathlib import Path

import yaml

from builders import resource

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "evaluation.md").read_text()


def test_the_example_is_valid() -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    evaluation = resource(yaml.safe_load(example)).spec.training.evaluation
    assert evaluation
    assert evaluation.gate
    assert evaluation.gate.must_improve_by == "0.02"

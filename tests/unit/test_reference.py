"""The reference page names everything that a person may write or meet."""

import pytest

from lorafinetune.api.fields import walk
from lorafinetune.api.reasons import FACTS, Reason
from lorafinetune.api.reference import page
from lorafinetune.api.spec import LoRAFineTuneSpec
from lorafinetune.api.status import LoRAFineTuneStatus

PAGE = page()
FIELDS = [
    *(f"spec.{path}" for path, _ in walk(LoRAFineTuneSpec)),
    *(f"status.{path}" for path, _ in walk(LoRAFineTuneStatus)),
]


def row(first: str) -> list[str]:
    """The cells of the only row that begins with a cell."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{first}` |"))
    return [cell.strip() for cell in line.strip("|").replace("\\|", "/").split("|")]


@pytest.mark.parametrize("field", FIELDS)
def test_field_has_one_row_with_type_default_and_text(field: str) -> None:
    assert all(row(field))


@pytest.mark.parametrize("reason", Reason)
def test_reason_has_one_row_with_its_facts(reason: Reason) -> None:
    facts = FACTS[reason]
    assert row(reason) == [f"`{reason}`", facts.when, facts.hint, facts.retry]


@pytest.mark.parametrize(
    ("field", "kind", "default"),
    [
        pytest.param("spec.model.source", "string", "**required**", id="a required field"),
        pytest.param("spec.training.epochs", "string", "–", id="a field that may be left out"),
        pytest.param("spec.training.lora.rank", "integer, ≥ 1, ≤ 1024", "`8`", id="a bounded number"),
        pytest.param("spec.training.trainOnPrompt", "boolean", "`false`", id="a boolean"),
        pytest.param("spec.training.lora.targets", "list of string", '`["all"]`', id="a list"),
        pytest.param(
            "spec.training.checkpoint.keep", "a whole number or all", "`2`", id="a number or a word"
        ),
        pytest.param("spec.training.extraArgs", "map of string", "–", id="a map"),
        pytest.param("spec.connections[].addressing", "`path` / `virtual`", "`path`", id="one of several"),
    ],
)
def test_row_shows(field: str, kind: str, default: str) -> None:
    assert row(field)[1:3] == [kind, default]

"""The page about extra arguments names every argument once, with what becomes of it."""

import re

import pytest

from documents import ROOT
from lorafinetune.contract.extra_args import EXTRA_ARGUMENTS, OWNED, REFUSED
from lorafinetune.contract.reference import ABOUT, page

PAGE = page()


def test_the_page_in_the_repository_is_the_one_that_is_generated() -> None:
    assert (ROOT / "docs/reference/extra-args.md").read_text() == PAGE


def test_every_argument_is_in_one_table() -> None:
    found = re.findall(r"(?<=[|,] )`(\w+)`", "".join(re.findall(r"^\|.*\n", PAGE, flags=re.MULTILINE)))
    objectives = {"sft", "dpo", "pt"}
    assert sorted(set(found) - objectives) == sorted({*EXTRA_ARGUMENTS, *OWNED, *REFUSED})
    assert [name for name in found if name not in objectives and found.count(name) > 1] == []


@pytest.mark.parametrize(
    ("name", "changes", "packs"),
    [
        pytest.param("optim", "yes", "yes", id="one that changes the result"),
        pytest.param("logging_steps", "no", "yes", id="one that does not"),
        pytest.param("neftune_noise_alpha", "yes", "no", id="one that needs padding"),
    ],
)
def test_the_table_says_of(name: str, changes: str, packs: str) -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == EXTRA_ARGUMENTS[name].form
    assert cells[2:4] == [changes, packs]


def test_every_allowed_argument_is_explained() -> None:
    assert set(ABOUT) == set(EXTRA_ARGUMENTS)

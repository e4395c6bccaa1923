"""What the README shows of the command line is what it prints. (Its first command: test_demo.)"""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from documents import ROOT, Typist, checkout, said
from local.runs import Desk, least_model

README: Final = (ROOT / "README.md").read_text()
TUNE: Final = re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)[0]
REFUSALS: Final = re.findall(
    r"^Bad input is refused.*?^```\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL
)[0]
CHECKS: Final = said("README.md", "Run your own, here").rpartition(".venv/bin/lorafinetune run")[0]
ROWS: Final = 85
EMPTY: Final = 7
"""The row whose answer is empty, counted from 1."""


@pytest.fixture
def visitor(tmp_path: Path) -> Typist:
    return Typist(checkout(tmp_path, {}))


def test_both_samples_are_checked_and_rendered_as_it_says(visitor: Typist) -> None:
    printed = visitor.type(CHECKS)
    assert "LoRAFineTune smollm2-emollm is valid" in printed
    assert "learning_rate: 0.0001" in printed


def test_its_resource_is_valid(visitor: Typist) -> None:
    """With rows where a reader has some: validate looks whether they are there."""
    rows = visitor.folder / "rows.jsonl"
    rows.write_text("{}")
    assert "file:///data/rows.jsonl" in TUNE
    (visitor.folder / "tune.yaml").write_text(TUNE.replace("/data/rows.jsonl", str(rows)))
    assert "is valid" in visitor.type(".venv/bin/lorafinetune validate --local tune.yaml")


def test_a_number_without_quotes_is_refused_in_its_words(visitor: Typist) -> None:
    (visitor.folder / "tune.yaml").write_text(TUNE.replace('epochs: "3"', "epochs: 3"))
    printed = visitor.type(".venv/bin/lorafinetune validate --local tune.yaml 2>&1 || true")
    assert printed.splitlines()[0] == REFUSALS.splitlines()[0]


def test_a_row_without_an_answer_is_refused_in_its_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    rows = [{"instruction": f"Why {n}?", "output": "" if n == EMPTY else "So."} for n in range(1, ROWS + 1)]
    desk.edit({})
    desk.samples.mkdir(parents=True)
    (desk.samples / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    least_model(desk.samples / "tiny")
    code, printed = desk.finish()
    assert code == 64
    assert "".join(REFUSALS.splitlines(keepends=True)[1:]) in printed

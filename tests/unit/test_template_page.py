"""The page about templates says by what they are inferred, and how they are compared."""

import re

from documents import ROOT
from lorafinetune_stages.prepare import examples
from lorafinetune_stages.prepare.identity import EXAMINED_ROWS
from lorafinetune_stages.prepare.sandbox import CPU_SECONDS, MORE_BYTES
from lorafinetune_stages.prepare.templates import CLUES

PAGE = (ROOT / "docs/how-to/template.md").read_text()


def texts(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell.replace("\\|", "|")))


def test_every_clue_has_its_line_and_they_stand_in_order() -> None:
    table = PAGE.split("## Which template is used")[1].split("\nWhere no line fits")[0]
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines() if line.startswith("| `")]
    found = [tuple(texts(cell) for cell in line) for line in lines]
    assert [line for line in found if line[0] != ("template",)] == [
        ((clue.template,), clue.model_types, clue.contains, clue.lacks) for clue in CLUES
    ]


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"has {CPU_SECONDS} seconds of CPU time\nand {MORE_BYTES >> 30} GiB of memory" in PAGE
    assert f"reads the first {EXAMINED_ROWS:,} training rows" in PAGE
    assert f"writes up to {examples.MOST} rows of your data" in PAGE
    assert f"the first {examples.EXAMINED_ROWS} rows that are used of every dataset" in PAGE
    assert f"more than {examples.MAX_CHARACTERS:,} characters" in PAGE.replace("\n", " ")

"""What was measured is told: every benchmark has its place on the page, and every result its commit."""

import json
import re
from pathlib import Path
from typing import Any, Final

from bench.page import NOT_MEASURED, PAGE, TITLES, page
from bench.startup import GOAL

ROOT: Final = Path(__file__).parents[2]
WRITTEN: Final = re.compile(r"write_results\((?:\"(\w+)\"|NAME),")
NAMED: Final = re.compile(r"^NAME: Final = \"(\w+)\"$", re.MULTILINE)


def kept() -> dict[str, Any]:
    """The results that are committed, by name."""
    files = (ROOT / "docs" / "results").glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in files}


def written() -> set[str]:
    """Names under which benchmarks write results."""
    sources = [
        path.read_text() for folder in ("bench", "faults") for path in (ROOT / "tests" / folder).rglob("*.py")
    ]
    return {name or NAMED.findall(text)[0] for text in sources for name in WRITTEN.findall(text)}


def test_every_benchmark_has_a_title() -> None:
    assert written() == TITLES.keys()


def test_every_benchmark_has_a_result_or_is_told_to_have_none() -> None:
    assert sorted([*kept(), *NOT_MEASURED]) == sorted(TITLES)


def test_no_result_is_of_a_tree_with_changes() -> None:
    assert [name for name, result in kept().items() if result["commit"].endswith("-dirty")] == []


def test_the_page_is_made_of_the_results() -> None:
    assert PAGE.read_text() == page()


def test_download_starts_as_quickly_and_as_small_as_it_should() -> None:
    rows = [row for row in kept()["startup"]["rows"] if row["goal"] == GOAL]
    assert len(rows) == 4
    assert all(row["seconds"] < 1 and row["MB"] < 120 and not row["imports torch"] for row in rows)

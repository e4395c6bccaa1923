"""The page about reliability has a place for every matrix, and says what the kept results say."""

import json

from bench.results import RESULTS
from faults.__main__ import PARTS
from faults.outcome import PREFIX
from faults.page import PAGE, marked, renewed

KEPT = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob(f"{PREFIX}*.json")}


def test_every_matrix_has_its_place() -> None:
    assert marked(PAGE.read_text()) == list(PARTS)


def test_the_tables_are_those_of_the_results() -> None:
    assert PAGE.read_text() == renewed(PAGE.read_text())


def test_no_result_is_of_a_tree_with_changes() -> None:
    assert [name for name, result in KEPT.items() if result["commit"].endswith("-dirty")] == []

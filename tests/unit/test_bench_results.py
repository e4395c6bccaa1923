"""What was measured is told: every benchmark has its place on the page, and every result its commit."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from bench.operator.__main__ import GOALS
from bench.page import PAGE, TITLES, page
from bench.parity.compare import NOISE, within
from bench.reliability import PAGE as RELIABILITY
from bench.reliability import marked
from bench.results import commit
from bench.startup import GOAL

ROOT: Final = Path(__file__).parents[2]
WRITTEN: Final = re.compile(r"write_results\((?:\"(\w+)\"|NAME),")
NAMED: Final = re.compile(r"^NAME: Final = \"(\w+)\"$", re.MULTILINE)


def kept() -> dict[str, Any]:
    """The results of benchmarks that are committed, by name."""
    others = marked(RELIABILITY.read_text())
    files = (ROOT / "docs" / "results").glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in files if path.stem not in others}


def written() -> set[str]:
    """Names under which benchmarks write results."""
    sources = [path.read_text() for path in (ROOT / "tests" / "bench").rglob("*.py")]
    return {name or NAMED.findall(text)[0] for text in sources for name in WRITTEN.findall(text)}


def test_every_benchmark_has_a_title() -> None:
    assert written() == TITLES.keys()


def test_every_benchmark_has_a_result() -> None:
    assert kept().keys() == TITLES.keys()


def test_no_result_is_of_a_tree_with_changes() -> None:
    assert [name for name, result in kept().items() if result["commit"].endswith("-dirty")] == []


def test_the_page_is_made_of_the_results() -> None:
    assert PAGE.read_text() == page()


REACHED: Final = {"< 1000": 1000, "< 200": 200, "0": 1, "<= 19": 19.01}
"""What is below this reaches the goal."""


def test_the_operator_is_as_quick_and_as_small_as_it_should_be() -> None:
    rows = [row for row in kept()["operator"]["rows"] if row["goal"]]
    assert {row["what"]: row["goal"] for row in rows} == GOALS
    for row in rows:
        measured = [row[runs] for runs in ("1,000 runs", "5,000 runs") if row[runs] != ""]
        assert measured
        assert all(value < REACHED[row["goal"]] for value in measured)


def test_a_run_whose_outputs_are_in_the_store_takes_seconds() -> None:
    (again,) = (row for row in kept()["local_run"]["rows"] if row["what"].startswith("second run"))
    assert again["seconds"] < 10


def test_a_merge_takes_little_more_than_a_copy_and_little_memory() -> None:
    (ours,) = (row for row in kept()["export"]["rows"] if row["what"] == "the export stage")
    assert ours["times the copy"] < 1.3
    assert ours["peak MB"] < 2000


def test_download_starts_as_quickly_and_as_small_as_it_should() -> None:
    rows = [row for row in kept()["startup"]["rows"] if row["goal"] == GOAL]
    assert len(rows) == 5
    assert all(row["seconds"] < 1 and row["MB"] < 120 and not row["imports torch"] for row in rows)


@pytest.mark.parametrize(
    ("name", "bound"), [("parity_smollm2", NOISE), ("parity", "LLaMA-Factory: bf16, 1 × 8 padded")]
)
def test_our_settings_learn_as_the_recipes_do(name: str, bound: str) -> None:
    """Within the noise of two seeds; on a GPU, nearer to the recipe's fp16 than LLaMA-Factory's own bf16."""
    rows = kept()[name]["rows"]
    (distance,) = (row for row in rows if row["settings"] == bound)
    ours = [row for row in rows if row["settings"] == "auto"]
    assert [row["seed"] for row in ours] == [1, 2]
    assert all(row["same conversations in each step"] == "yes" and within(row, distance) for row in ours)


@pytest.mark.parametrize("name", sorted(name for name in kept() if name.startswith("parity")))
def test_the_picture_lies_beside_its_results(name: str) -> None:
    assert (ROOT / "docs" / "results" / f"{name}.png").is_file()


def test_a_card_is_held_no_longer_than_it_should_be() -> None:
    """Beside steps and compiling; and the download takes four fifths of the lesser of network and disk."""
    rows = {row["what"]: row for row in kept()["held"]["rows"]}
    limits = [row["MB/s"] for what, row in rows.items() if what.startswith("limit")]
    assert len(limits) == 2
    assert rows["downloading the model and the dataset"]["MB/s"] >= 0.8 * min(limits)
    assert rows["beside both"]["seconds"] < 60


SPEEDS: Final = {
    "auto": 11_500,
    "auto, 22 conversations a step": 12_500,
    "fp8": 15_000,
    "fp8, 22 conversations a step": 17_000,
}
"""Useful tokens a second that a training of the shape of GLM-4-9B must reach on one card of 80 GB."""


def test_a_card_trains_as_fast_as_it_must() -> None:
    rows = {row["settings"]: row for row in kept()["train"]["rows"]}
    assert {name for name, speed in SPEEDS.items() if rows[name]["tokens/s"] < speed} == set()
    assert all(rows[name]["with what is kept GB"] <= 80 for name in SPEEDS)


def test_a_pack_has_the_gradients_of_its_conversations() -> None:
    errors = json.loads(kept()["train"]["errors"])
    assert {what: error for what, error in errors.items() if error > 0.01 and "fp8" not in what} == {}


def test_two_cards_are_nearly_twice_as_fast_as_one() -> None:
    rates = {row["settings"]: row.get("tokens/s", 0) for row in kept()["train_gpus"]["rows"]}
    assert rates["2 GPUs, 44 conversations a step"] >= 1.9 * rates["1 GPU, 22 conversations a step"]


def test_programs_that_share_a_training_learn_as_one_does() -> None:
    losses = [row["mean loss of the last 8"] for row in kept()["train_nodes"]["rows"]]
    assert len(losses) == 5
    assert max(losses) - min(losses) < 0.05


@pytest.mark.parametrize("name", ["memory", "memory_pairs"])
def test_no_training_takes_more_memory_than_was_estimated_nor_much_less(name: str) -> None:
    over = [row["estimate over measured %"] for row in kept()[name]["rows"]]
    assert all(0 <= percent <= 15 for percent in over)


NOT_REACHED = pytest.mark.xfail(
    strict=True, reason="each row is encoded anew: docs/limits.md has the numbers"
)


@pytest.mark.parametrize(
    ("rows", "sets", "least"),
    [
        pytest.param("aiwei.json", 3, 4, id="long rows"),
        pytest.param("100000 short rows", 1, 10, id="short rows"),
        pytest.param("100000 that hardly repeat", 1, 10, id="hardly repeating", marks=NOT_REACHED),
    ],
)
def test_rows_become_tokens_as_fast_as_they_should(rows: str, sets: int, least: float) -> None:
    """rows: how the names begin. sets: of rows, each with one process and with two."""
    table = kept()["prepare"]["rows"]
    times = [row["× the peer"] for row in table if row["× the peer"] and row["rows"].startswith(rows)]
    assert len(times) == 2 * sets
    assert min(times) >= least


def test_one_core_reads_and_checks_as_fast_as_it_should() -> None:
    rows = kept()["prepare"]["rows"]
    (alone,) = [row for row in rows if (row["what"], row["processes"]) == ("read and check", 1)]
    assert alone["rows"] == "5120 MiB"
    assert alone["MB/s"] >= 150
    assert alone["peak MB"] < 500


def test_a_copy_of_a_tree_is_told_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMIT", "0123abc")
    assert commit() == "0123abc"

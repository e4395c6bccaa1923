"""The page about reliability has a place for every matrix, chaos and soak, and says what the results say."""

import json
from typing import Any, Final

import pytest

from bench.reliability import PAGE, marked, renewed
from bench.results import RESULTS
from chaos.schedule import EVERYTHING
from faults.__main__ import PARTS
from faults.attempts import REFUSED
from faults.outcome import PREFIX
from soak.lives import KINDS

ATTACKS: Final = f"{PREFIX}attacks"
CHAOS: Final = "chaos"
CHAOS_OF_THE_SAMPLE: Final = "chaos_smollm2"
SOAK: Final = "soak"
SOAK_OF_UPLOADS: Final = "soak_uploads"
OF_PARTS: Final = [f"{PREFIX}{part}" for part in PARTS]
MATRICES: Final = [name for name in OF_PARTS if name != ATTACKS]
NAMES: Final = [*OF_PARTS, CHAOS_OF_THE_SAMPLE, CHAOS, SOAK, SOAK_OF_UPLOADS]
KEPT: Final[dict[str, dict[str, Any]]] = {
    name: json.loads((RESULTS / f"{name}.json").read_text())
    for name in NAMES
    if (RESULTS / f"{name}.json").exists()
}


def test_every_result_has_its_place() -> None:
    assert marked(PAGE.read_text()) == NAMES


def test_the_tables_are_those_of_the_results() -> None:
    assert PAGE.read_text() == renewed(PAGE.read_text())


@pytest.mark.parametrize("name", KEPT)
def test_a_result_is_of_a_tree_without_changes(name: str) -> None:
    assert not KEPT[name]["commit"].endswith("-dirty")


@pytest.mark.parametrize("name", [name for name in KEPT if name in MATRICES])
def test_whatever_was_harmed_ended_as_it_should(name: str) -> None:
    for row in KEPT[name]["rows"]:
        assert row.get("converged", row["points"]) == row["points"] > 0
        assert not row.get("not reached")
        assert not any(row.get(wrong) for wrong in ("duplicates", "lost", "wrong on the way"))


def test_every_attempt_was_refused_as_expected() -> None:
    assert all(row["attempts"] == row[REFUSED] > 0 for row in KEPT[ATTACKS]["rows"])


@pytest.mark.parametrize("name", [CHAOS, CHAOS_OF_THE_SAMPLE])
def test_no_run_that_was_disturbed_ended_wrongly(name: str) -> None:
    chaos = KEPT[name]
    assert chaos["runs"] >= 50
    assert chaos["complaints"] == chaos["tracebacks"] == []
    assert [row["wrong"] for row in chaos["rows"]] == [0] * len(chaos["rows"])


def test_every_disturbance_struck_some_run() -> None:
    struck = {row["disturbance"] for row in KEPT[CHAOS]["rows"] if row["drawn"] > row["missed"]}
    assert struck == {*EVERYTHING}


def test_a_soak_left_nothing_and_grew_nowhere() -> None:
    assert KEPT[SOAK]["complaints"] == []
    assert sum(KEPT[SOAK]["lives"].values()) >= 2000
    uploads = KEPT[SOAK_OF_UPLOADS]["rows"]
    assert [row["count"] for row in uploads if row["goal"] == "0"] == [0, 0]


def test_a_soak_left_none_of_any_kind() -> None:
    ended = {row["what"]: row["at the end"] for row in KEPT[SOAK]["rows"]}
    assert [ended[f"{kind} left"] for kind in KINDS] == [0] * len(KINDS)

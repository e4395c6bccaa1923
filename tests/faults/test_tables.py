"""What the tables of the matrices count."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

import pytest

from bench.results import ROOT
from faults import attempts, crash, stages
from faults.outcome import NOT_REACHED, Outcome
from faults.points import WRITE, Point

END: Final = {"jobs": {"a": 1}, "pods": {"a": 1}}


def counted(outcome: Outcome) -> dict[str, object]:
    (row,) = outcome.rows
    return {name: row[name] for name in ("points", NOT_REACHED, "converged")}


def test_a_point_that_no_life_of_an_operator_reached_is_counted_apart() -> None:
    calm = crash.Calm(END, (), {})
    tried = [crash.Tried(Point(WRITE, number, "cut"), number < 3, END) for number in (1, 2, 3)]
    outcome = crash.judged(tried, calm)
    assert counted(outcome) == {"points": 2, NOT_REACHED: 1, "converged": 2}
    assert outcome.complaints == []


REACHED_BY: Final = {
    "its first life": (1, True, 1),
    "its second life": (2, True, 2),
    "the last that it gets": (4, True, 4),
    "none of them": (5, False, 4),
}
"""The life that comes to the point; whether it counts as reached, and how often it was lived."""


@pytest.mark.parametrize("sentence", REACHED_BY)
def test_a_point_is_lived_until_it_is_reached_by(sentence: str) -> None:
    first, reached, times = REACHED_BY[sentence]
    point, calm = Point(WRITE, 9, "cut"), Point(WRITE, 1, "cut")
    lived: Counter[Point] = Counter()

    async def live(given: Iterable[Point]) -> list[crash.Tried]:
        lived.update(given := list(given))
        return [crash.Tried(each, each == calm or lived[each] >= first, END) for each in given]

    tried = asyncio.run(crash.until_reached(live, [calm, point]))
    assert [(one.point, one.reached) for one in tried] == [(calm, True), (point, reached)]
    assert lived == {calm: 1, point: times}


def test_a_point_that_no_run_of_a_stage_reached_is_counted_apart() -> None:
    calm = stages.Ended("", "")
    tried = [stages.Ended(f"PUT {name}", "slow", reached=name != "c") for name in "abc"]
    outcome = stages.judged("export", calm, tried)
    assert counted(outcome) == {"points": 2, NOT_REACHED: 1, "converged": 2}
    assert outcome.complaints == []


def test_a_file_that_a_run_left_behind_is_counted_and_named() -> None:
    calm = stages.Ended("", "", published=["model"])
    tried = [stages.Ended("PUT a", "cut", reached=True, published=["model", "stale"])]
    outcome = stages.judged("export", calm, tried)
    (row,) = outcome.rows
    assert (row["converged"], row["duplicates"], row["lost"]) == (0, 1, 0)
    assert "stale" in outcome.complaints[0]


def test_an_attempt_that_was_not_refused_is_counted_and_named() -> None:
    hub, store = f"{attempts.ATTACKS}/test_hub.py::test[a]", f"{attempts.ATTACKS}/test_store.py::test[b]"
    outcome = attempts.judged({hub: True, f"{hub[:-2]}c]": False, store: True})
    assert [tuple(row.values()) for row in outcome.rows if row["attempts"]] == [
        ("a hub's answers", 2, 1),
        ("the store", 1, 1),
    ]
    assert outcome.complaints == [f"{hub[:-2]}c]: not refused as expected"]


def test_every_file_of_attempts_has_its_place() -> None:
    found = (ROOT / attempts.ATTACKS).glob("test_*.py")
    elsewhere = {"tests/apiserver/test_attacks.py"}
    assert attempts.PLACES.keys() == {str(file.relative_to(ROOT)) for file in found} | elsewhere

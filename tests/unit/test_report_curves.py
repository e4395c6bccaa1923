"""What the page about a run says of its result, and how it draws it."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafinetune.report.curve import HEIGHT, MOST_POINTS, MOST_TICKS, WIDTH, chart, thin
from lorafinetune.report.interval import Interval
from lorafinetune.report.verdict import judge
from searching import examples
from unit.report_runs import evaluations, logged, steps

BASE = {"step": 0, "eval_loss": 2.25}
FAR = Interval(60, -0.25, -0.4, -0.1)
"""Chance does not go so far."""
WORSE = Interval(60, 0.25, 0.1, 0.4)
"""Nor so far the other way."""
VERDICTS: dict[str, tuple[dict[str, Any], tuple[str, float]]] = {
    "a run that has not ended has none": ({"log": steps(5), "is_trained": False}, ("unfinished", 0)),
    "without an evaluation there is none": ({"log": steps(5)}, ("noEvaluation", 0)),
    "on fewer than fifty rows there is none": ({"log": evaluations(2, 1), "rows": 49}, ("fewRows", 0)),
    "rows that are trained on too do not count": (
        {"log": evaluations(2, 1), "rows": 60, "leaked": 11},
        ("fewRows", 0),
    ),
    "fifty rows that are not trained on will do": (
        {"log": evaluations(2, 1), "rows": 60, "leaked": 10},
        ("fell", 0),
    ),
    "one evaluation can be compared with nothing": ({"log": evaluations(2)}, ("once", 0)),
    "one evaluation can be compared with the base": (
        {"log": [{"step": 0, "eval_loss": 3.0}, *evaluations(2)], "interval": FAR},
        ("better", 0),
    ),
    "a loss that is no lower than the base's is not better": (
        {"log": [{"step": 0, "eval_loss": 2.0}, *evaluations(1, 2.25)], "interval": WORSE},
        ("notBetter", 1.25),
    ),
    "a loss that rises after its best is over-fitting": ({"log": evaluations(3, 1, 1.5)}, ("fell", 0.5)),
    "a loss that ends where it began has not fallen": ({"log": evaluations(2, 2)}, ("notFallen", 0)),
    "pairs are measured against the base": (
        {"log": evaluations(0.7), "objective": "dpo", "interval": WORSE},
        ("notBetter", 0),
    ),
    "what chance may have done is no verdict": (
        {"log": [BASE, *evaluations(2)], "interval": Interval(60, -0.25, -0.6, 0.1)},
        ("chance", 0),
    ),
    "what chance can't have done is better": (
        {"log": [BASE, *evaluations(2)], "interval": FAR},
        ("better", 0),
    ),
    "where the log has another base than the rows, the rows decide": (
        {"log": [BASE, *evaluations(2.5)], "interval": FAR},
        ("better", 0),
    ),
    "an interval that ends at 0 has it within": (
        {"log": [BASE, *evaluations(2)], "interval": Interval(60, -0.25, -0.4, 0.0)},
        ("chance", 0),
    ),
    "one that ends just before 0 has not": (
        {"log": [BASE, *evaluations(2)], "interval": Interval(60, -0.25, -0.4, -1e-9)},
        ("better", 0),
    ),
    "where chance is not known there is none": ({"log": [BASE, *evaluations(2)]}, ("uncompared", 0)),
    "without an interval a model is not called worse either": (
        {"log": [BASE, *evaluations(3)]},
        ("uncompared", 0),
    ),
    "fewer than fifty rows are too few for an interval too": (
        {"log": [BASE, *evaluations(2)], "rows": 49, "interval": Interval(49, -0.25, -0.4, -0.1)},
        ("fewRows", 0),
    ),
}


@pytest.mark.parametrize("sentence", VERDICTS)
def test_verdict(sentence: str) -> None:
    given, expected = VERDICTS[sentence]
    usual: dict[str, Any] = {
        "is_trained": True,
        "objective": "sft",
        "rows": 60,
        "leaked": 0,
        "takes_best": False,
    }
    asked = usual | given
    asked["log"] = logged(asked["log"])
    found = judge(**asked)
    assert (found.word, found.risen) == expected


RESULTS: dict[str, tuple[dict[str, Any], tuple[int, float, bool]]] = {
    "the last one is the result, and not the best": (
        {"log": [BASE, *evaluations(3, 2, 2.5)], "takes_best": False},
        (30, 0.25, False),
    ),
    "the best one is, where it is taken": (
        {"log": [BASE, *evaluations(3, 2, 2.5)], "takes_best": True},
        (20, 0.25, False),
    ),
    "what was measured of the result is": (
        {
            "log": [BASE, *evaluations(3, 2, 2.5), {"step": 20, "eval_loss": 1.75, "exported": True}],
            "takes_best": True,
        },
        (20, 0.5, True),
    ),
}


@pytest.mark.parametrize("sentence", RESULTS)
def test_what_is_held_against_the_base(sentence: str) -> None:
    given, expected = RESULTS[sentence]
    found = judge(logged(given["log"]), True, "sft", 60, 0, given["takes_best"])
    assert found.result
    assert (found.result.step, found.change, found.is_apart) == expected
    assert found.risen == 0.5


def test_what_is_said_of_the_base_is_the_interval_s() -> None:
    found = judge(logged([BASE, *evaluations(2)]), True, "sft", 60, 0, False, WORSE)
    assert (found.word, found.change) == ("notBetter", WORSE.change)


def test_a_long_curve_is_thinned_and_keeps_its_peaks() -> None:
    series = [(step, 1000.0 if step == 54_321 else 1.0) for step in range(1, 100_001)]
    found = thin(series)
    assert (len(found), found[0].first, found[-1].step) == (MOST_POINTS, 1, 100_000)
    assert (max(point.high for point in found), min(point.low for point in found)) == (1000.0, 1.0)
    assert sum(point.count for point in found) == 100_000


def test_without_a_point_there_is_no_curve() -> None:
    assert chart([]) is None


def test_one_step_is_a_dot_in_the_middle() -> None:
    found = chart([(1, 2.5)])
    assert found
    assert (found.line, found.band) == ("200.0,90.0 200.0,90.0", "")
    assert [(mark.left, mark.width) for mark in found.slices] == [(0.0, WIDTH)]
    assert [tick.value for tick in (*found.x_ticks, *found.y_ticks)] == [1, 2.5]


def test_axes_have_round_numbers() -> None:
    found = chart([(1, 0.0), (100, 0.001)])
    assert found
    assert [tick.value for tick in found.x_ticks] == [20, 40, 60, 80, 100]
    assert [tick.value for tick in found.y_ticks] == [0, 0.0002, 0.0004, 0.0006, 0.0008, 0.001]


NUMBERS = st.floats(min_value=-1e30, max_value=1e30)
STEPS = st.tuples(st.integers(0, 10**9), NUMBERS)


@settings(max_examples=examples(50))
@given(st.lists(STEPS, min_size=1, max_size=400), st.lists(STEPS, max_size=5))
def test_every_curve_is_inside_its_picture(
    line: list[tuple[int, float]], dots: list[tuple[int, float]]
) -> None:
    found = chart(line, dots)
    assert found
    places = [tuple(map(float, place.split(","))) for place in found.line.split() + found.band.split()]
    places += [(mark.x, mark.y) for mark in (*found.slices, *found.dots)]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert all(mark.width >= 0 and math.isfinite(mark.point.value) for mark in found.slices)
    assert abs(sum(mark.width for mark in found.slices) - WIDTH) < 2
    assert len(found.x_ticks) <= MOST_TICKS
    assert all(-1 <= tick.at <= WIDTH + 1 for tick in (*found.x_ticks, *found.y_ticks))

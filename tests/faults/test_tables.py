"""What the tables of the matrices count."""

from typing import Final

from faults import crash, stages
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


def test_a_point_that_no_run_of_a_stage_reached_is_counted_apart() -> None:
    calm = stages.Ended("", "")
    tried = [stages.Ended(f"PUT {name}", "slow", reached=name != "c") for name in "abc"]
    outcome = stages.judged("export", calm, tried)
    assert counted(outcome) == {"points": 2, NOT_REACHED: 1, "converged": 2}
    assert outcome.complaints == []

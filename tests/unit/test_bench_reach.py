"""What the benchmark of the operator computes, against what the operator does."""

import time

import pytest

from bench.operator import reach
from bench.operator.ledger import percentile
from bench.operator.reach import paragraph, progress_writes
from bench.operator.usage import OTHERS, OURSELVES, Meter
from lorafinetune.contract.outcome import Progress
from lorafinetune.shell.progress import ProgressMemory


@pytest.mark.parametrize("seconds", [100, 1000, 3600])
def test_progress_is_shown_as_often_as_is_computed(seconds: int) -> None:
    clock, shown = 0.0, set()
    memory = ProgressMemory(lambda: clock)
    for second in range(seconds):
        clock = float(second)
        memory.accept(("team-a", "job"), Progress(stage="train", done=second, total=seconds, unit="steps"))
        shown.add(memory.shown(("team-a", "job")))
    assert len(shown) == pytest.approx(progress_writes(seconds), rel=0.1)


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(50, 50), (99, 99), (100, 100)],
    ids=["the median", "the ninety-ninth", "the last"],
)
def test_a_percentile_is_a_value_that_was_seen(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_the_reach_follows_from_the_table() -> None:
    few = {
        reach.CALLS: 20.0,
        reach.OPERATOR_CPU: 40.0,
        reach.SERVER_CPU: 80.0,
        reach.EMPTY: 100,
    }
    many = {reach.MEMORY: 150}
    rows = [
        {"what": what, "10 runs": few.get(what, ""), "1,000 runs": many.get(what, "")}
        for what in [*few, *many]
    ]
    told = paragraph(rows)
    calls = 20 + progress_writes(3600)
    assert f"half a core serves {int(1800 / (2e-3 * calls)) // 100 * 100:,} such runs" in told
    assert f"one of its cores carries {int(3600 / (4e-3 * calls)) // 100 * 100:,} of them" in told
    assert "takes 50 KB of the operator's memory" in told


def test_the_work_of_each_process_is_told_apart() -> None:
    meter, until = Meter(), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    used = meter.used()
    assert 0.05 <= used[OURSELVES] < 0.2
    assert used[OTHERS] > -0.1
    assert 0 < meter.shares()[OURSELVES] <= 100

"""What the benchmark of the operator computes, against what the operator does."""

import pytest

from bench.operator.ledger import percentile
from bench.operator.reach import progress_writes
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

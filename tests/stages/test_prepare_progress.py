"""The progress of a whole prepare: it goes on until all is done, and tells how long that takes."""

from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.contract.outcome import Progress
from lorafinetune_stages.prepare.stage import CHECK, PROOF
from lorafinetune_stages.progress import Reporter
from stages.peer import smollm2
from stages.prepare_builders import Bench, alpaca, json_lines

pytestmark = pytest.mark.model

ROWS = json_lines([alpaca(f"q{number}", "a " * (number % 40 + 1)) for number in range(600)])


class Recorder(Reporter):
    """Keeps every progress, with a clock on which each takes a second."""

    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.seconds = 0.0
        super().__init__("prepare", None, self._tick)

    def _tick(self) -> float:
        self.seconds += 1
        return self.seconds

    def _write(self) -> None:
        self.seen.append(self._latest)


@pytest.mark.parametrize(
    ("again", "activities"),
    [
        pytest.param(
            None,
            ["fetching", "reading", CHECK, PROOF, "tokenising", "uploading", "packing"],
            id="the first time",
        ),
        pytest.param(
            {"learning_rate": "1e-3"},
            ["checking the report", CHECK, "fetching", PROOF, "fetching the prepared rows", "packing"],
            id="when only the training is another",
        ),
    ],
)
def test_progress_goes_on_until_all_is_done_and_tells_what_is_left(
    tmp_path: Path, again: dict[str, Any] | None, activities: list[str]
) -> None:
    bench = Bench(tmp_path, smollm2()).add(ROWS, max_samples=550)
    asked: dict[str, Any] = {
        "cutoff_length": 128,
        "batch_size": None,
        "packing": "tokens",
        "batch_tokens": 512,
    }
    reporter = Recorder()
    if again is None:
        bench.report_to(reporter, **asked)
    else:
        bench.run(**asked)
        bench.report_to(reporter, **asked, **again)
    parts = [(name, [*steps]) for name, steps in groupby(reporter.seen, lambda progress: progress.activity)]
    assert [name for name, _ in parts] == activities
    for _, steps in parts:
        assert (steps[0].done, steps[-1].done) == (0, steps[-1].total)
        assert all(one.done <= other.done and one.total == other.total for one, other in pairwise(steps))
        assert all(step.eta_seconds is not None for step in steps if step.done)

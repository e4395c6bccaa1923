"""What is said of datasets and splits of which nothing is left."""

from collections.abc import Sequence
from typing import Any

import pytest

from lorafinetune.api.training import Training
from lorafinetune_stages.prepare.empty_datasets import RowUsage, too_short
from lorafinetune_stages.prepare.report import SplitSummary

HEAD = "see training.maxSamples and training.sampling"
SHARE = "too small a share for one row: see weight and training.maxSamples"
REPEATED = "all equal earlier ones, which training.deduplicate leaves out"
BAD = "all that were chosen are bad"


@pytest.mark.parametrize(
    ("there", "chosen", "used", "training", "expected"),
    [
        pytest.param([5, 5], [5, 5], [5, 4], {}, [], id="nothing where some rows of each are used"),
        pytest.param([5, 5], [3, 0], [3, 0], {}, [f"datasets[1]: {HEAD}"], id="those that came too late"),
        pytest.param([5, 0], [5, 0], [5, 0], {}, [f"datasets[1]: {REPEATED}"], id="those that repeat others"),
        pytest.param([5, 5], [5, 5], [5, 0], {}, [f"datasets[1]: {BAD}"], id="those of bad rows alone"),
        pytest.param(
            [999, 1],
            [10, 0],
            [10, 0],
            {"sampling": "proportional"},
            [f"datasets[1]: {SHARE}"],
            id="those of too small a share",
        ),
        pytest.param(
            [5, 0, 5, 0],
            [5, 0, 0, 0],
            [5, 0, 0, 0],
            {},
            [f"datasets[1], datasets[3]: {REPEATED}", f"datasets[2]: {HEAD}"],
            id="each with its own reason",
        ),
    ],
)
def test_datasets_that_contribute_nothing_are_told(
    there: Sequence[int],
    chosen: Sequence[int],
    used: Sequence[int],
    training: dict[str, Any],
    expected: list[str],
) -> None:
    found = RowUsage(there, chosen, used).told_unused(Training(epochs="1", **training))
    assert [*found] == [f"no row is used of {text}" for text in expected]


def test_texts_that_fill_no_row_are_told() -> None:
    split = SplitSummary(left_tokens=9)
    split.rows_by_dataset[0] = 2
    error = too_short(split, "train on", 64)
    assert error.message == (
        "datasets: 2 texts of 9 tokens in all fill no row of training.cutoffLength 64 to train on"
    )
    assert error.hint == "Lower `training.cutoffLength`, or add texts."

"""The log of a training: rows, their means, and the numbers that are reported of them."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.status import LossPoint
from lorafinetune.api.types import DECIMAL_PATTERN
from lorafinetune_stages.train.history import MAX_POINTS, History, decimal, evaluation_row, step_row


def steps(losses: Sequence[float], first: int = 1) -> list[dict[str, Any]]:
    return [{"step": first + index, "epoch": 0.5, "loss": loss} for index, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("every", "rows"),
    [
        pytest.param(1, [(1, 4.0), (2, 2.0), (3, 3.0)], id="each step"),
        pytest.param(2, [(2, 3.0), (3, 3.0)], id="the mean of every two, and what is left over"),
        pytest.param(5, [(3, 3.0)], id="fewer steps than a row takes"),
    ],
)
def test_rows_are_means_over_the_steps_since_the_row_before(
    every: int, rows: list[tuple[int, float]]
) -> None:
    history = History(steps([4.0, 2.0, 3.0]), every)
    history.close()
    assert [(row["step"], row["loss"]) for row in history.rows] == rows


@given(losses=st.lists(st.floats(0, 100), max_size=40), cut=st.integers(0, 40), every=st.integers(1, 7))
def test_a_log_that_is_taken_up_again_gives_the_same_rows(losses: list[float], cut: int, every: int) -> None:
    log = steps(losses)
    whole, resumed = History(log, every), History(log[:cut], every)
    for row in log[cut:]:
        resumed.add(row)
    for history in (whole, resumed):
        history.close()
    assert resumed.rows == whole.rows


def test_evaluations_stand_between_the_steps_and_the_closing_summary_does_not() -> None:
    log = [
        *steps([4.0]),
        evaluation_row(1, 0.5, {"eval_loss": 3.5}),
        *steps([2.0], first=2),
        {"step": 2, "train_loss": 3.0},
    ]
    history = History(log, 1)
    assert [row.get("eval_loss", row.get("loss")) for row in history.rows] == [4.0, 3.5, 2.0]
    assert history.evaluated == {"step": 1, "epoch": 0.5, "eval_loss": 3.5}


def test_the_status_has_the_last_points_of_the_curve() -> None:
    status = History(steps([float(step) for step in range(1, 101)]), 1).status(100, 200, 1.25, 900)
    assert (status.step, status.total_steps, status.epoch) == (100, 200, "1.25")
    assert (status.loss, status.eval_loss, status.tokens_per_second) == ("100", None, 900)
    assert len(status.recent) == MAX_POINTS
    assert status.recent[-1] == LossPoint(step=100, loss="100")


def test_the_evaluation_before_the_first_step_is_the_base_s() -> None:
    log = [evaluation_row(0, 0.0, {"eval_loss": 4.5}), *steps([4.0])]
    before = History(log, 1)
    after = History([*log, evaluation_row(1, 0.5, {"eval_loss": 3.5})], 1)
    told = [history.status(1, 2, 0.5, 900) for history in (before, after)]
    assert [(status.base_eval_loss, status.eval_loss) for status in told] == [("4.5", None), ("4.5", "3.5")]
    assert [row["step"] for row in after.rows] == [0, 1, 1]


def test_what_was_measured_of_the_result_is_told_and_not_compared() -> None:
    log = [*steps([4.0]), evaluation_row(1, 0.5, {"eval_loss": 3.5})]
    history = History(log, 1)
    history.add_exported(3.25)
    assert history.status(1, 2, 0.5, 900).eval_loss == "3.25"
    assert [row["eval_loss"] for row in history.evaluations] == [3.5]
    assert [row.get("exported", False) for row in history.rows] == [False, False, True]


def test_the_best_is_the_first_of_the_lowest_where_it_is_selected() -> None:
    log = [evaluation_row(step, 0.5, {"eval_loss": loss}) for step, loss in enumerate((1.0, 3.0, 2.0, 2.0))]
    best, last = (History(log, 1, select).status(3, 9, 0.5, 900) for select in ("best", "last"))
    assert (best.best_step, best.best_eval_loss, best.eval_loss, best.base_eval_loss) == (2, "2", "2", "1")
    assert (last.best_step, last.best_eval_loss) == (None, None)


def test_the_best_is_told_as_it_was_measured_of_the_result() -> None:
    log = [evaluation_row(step, 0.5, {"eval_loss": loss}) for step, loss in ((2, 3.0), (4, 2.0), (6, 2.5))]
    history = History(log, 1, "best")
    history.add_exported(1.75)
    told = history.status(6, 6, 0.5, 900)
    assert (told.best_step, told.best_eval_loss, told.eval_loss) == (4, "1.75", "2.5")
    assert history.rows[-1] == {"step": 4, "epoch": 0.5, "eval_loss": 1.75, "exported": True}


def test_a_row_keeps_what_is_a_number() -> None:
    logged = {"step": 3, "loss": 1.5, "grad_norm": math.inf, "train_runtime": 9.0, "num_input_tokens_seen": 7}
    assert step_row(logged, 42) == {"step": 3, "loss": 1.5, "tokens": 7, "tokens_per_second": 42}


def test_the_metrics_are_one_json_object_a_line() -> None:
    history = History([*steps([1.5]), evaluation_row(1, 0.5, {"eval_loss": 2.5})], 1)
    assert [json.loads(line) for line in history.to_json_lines().splitlines()] == history.rows


@given(st.floats(0, 1e30))
def test_a_number_is_written_as_the_api_takes_it(value: float) -> None:
    text = decimal(value)
    assert re.match(DECIMAL_PATTERN, text)
    assert float(text) == pytest.approx(value, rel=1e-5, abs=1e-12)

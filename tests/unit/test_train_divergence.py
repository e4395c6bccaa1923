"""When a training has come apart, by the losses of its steps."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.divergence import PATIENCE, Divergence

STATE = SimpleNamespace(global_step=7, max_steps=100)


def ends(losses: list[float], before: int = 0) -> bool:
    """Whether a training with such losses is ended. before: how many of them an earlier attempt had."""
    watched = Divergence([{"step": 0, "eval_loss": 99.0}, *({"loss": loss} for loss in losses[:before])])
    try:
        for loss in losses[before:]:
            watched.check(loss, STATE)
    except StageError as problem:
        return problem.reason is Reason.LOSS_DIVERGED
    return False


@pytest.mark.parametrize(
    ("losses", "is_ended"),
    [
        pytest.param([2.0] + [11.0] * 10, True, id="ten steps above 10"),
        pytest.param([2.0] + [11.0] * 9 + [9.0] + [11.0] * 9, False, id="spikes that pass"),
        pytest.param([2.0] + [9.9] * 500, False, id="a loss that is high, and might be of strange rows"),
        pytest.param([12.0] + [30.0] * 500, False, id="rows that the base can't read either"),
        pytest.param([12.0] + [37.0] * 10, True, id="three times that"),
        pytest.param([2.0, 1.5, math.nan], True, id="no number"),
        pytest.param([2.0, 1.5, math.inf], True, id="infinity"),
        pytest.param([0.0] * 50, False, id="nothing left to learn"),
    ],
)
def test_a_training_is_ended_by(losses: list[float], is_ended: bool) -> None:
    assert ends(losses) == is_ended


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_no_loss_that_a_model_which_reads_can_have_ends_a_training(losses: list[float]) -> None:
    assert not ends(losses)


@given(st.floats(0, 5), st.integers(0, 10))
def test_an_attempt_that_goes_on_counts_the_steps_before_it(first: float, before: int) -> None:
    losses = [first] + [16.0] * PATIENCE
    assert ends(losses, before)
    assert not ends(losses[:-1], before)


def test_it_is_suspected_from_the_first_such_step_until_one_is_well() -> None:
    watched, suspected = Divergence([]), []
    for loss in (2.0, 40.0, 40.0, 2.0):
        watched.check(loss, STATE)
        suspected.append(watched.is_suspected)
    assert suspected == [False, True, True, False]


def test_it_says_where_it_was_and_where_it_began() -> None:
    watched = Divergence([{"loss": 2.5}, *[{"loss": 15.0}] * 9])
    with pytest.raises(StageError) as failed:
        watched.check(15.0, STATE)
    assert failed.value.message == (
        "the loss is 15 at step 7 of 100, and was above 10 in 10 steps one after another; it began at 2.5"
    )

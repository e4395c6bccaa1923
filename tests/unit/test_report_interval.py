"""How far chance goes: the interval of what two models' losses differ by, against answers that are known."""

import math
import statistics
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorafinetune.contract.rowlosses import MOST_ROWS, Compared
from lorafinetune.report.interval import Interval, interval
from searching import examples

TOKENS = 10


def compared(changes: Sequence[float], tokens: Sequence[int] = ()) -> Compared:
    """Rows of which each costs the tuned model so much more in all."""
    base = tuple(100.0 + index for index in range(len(changes)))
    tuned = tuple(nats + change for nats, change in zip(base, changes, strict=True))
    lengths = tuple(tokens or [TOKENS] * len(changes))
    return Compared(rows=len(changes), tokens=lengths, base=base, tuned=tuned)


def noise(count: int, mean: float) -> list[float]:
    random = Random(1)
    return [random.gauss(mean, 1) for _ in range(count)]


def test_where_every_row_gains_the_same_there_is_no_chance() -> None:
    assert interval(compared([-0.5] * 60)) == Interval(60, -0.05, -0.05, -0.05)


@pytest.mark.parametrize("count", [50, 400, 2000])
def test_it_is_that_of_the_normal_distribution(count: int) -> None:
    """Rows of one length: the mean is off by 1.96 standard errors in 5 % of all samples."""
    changes = noise(count, -0.3)
    found = interval(compared(changes))
    middle = statistics.fmean(changes) / TOKENS
    reach = 1.96 * statistics.stdev(changes) / math.sqrt(count) / TOKENS
    assert found.change == pytest.approx(middle)
    assert found.low == pytest.approx(middle - reach, abs=0.12 * reach)
    assert found.high == pytest.approx(middle + reach, abs=0.12 * reach)


def test_a_long_row_counts_by_its_tokens() -> None:
    found = interval(compared([-10.0] + [1.0] * 50, [1000] + [10] * 50))
    assert found.change == pytest.approx(40 / 1500)


@pytest.mark.parametrize(
    ("mean", "spans"),
    [
        pytest.param(-0.5, False, id="a gain"),
        pytest.param(0.0, True, id="nothing but noise"),
        pytest.param(0.5, False, id="a loss"),
    ],
)
def test_what_may_be_chance(mean: float, spans: bool) -> None:
    assert interval(compared(noise(200, mean))).spans_zero == spans


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=examples(15))
def test_the_order_of_rows_does_not_matter(changes: list[float], random: Random) -> None:
    one = compared(changes)
    order = random.sample(range(len(changes)), len(changes))
    other = Compared(
        rows=one.rows,
        tokens=one.tokens,
        base=tuple(one.base[index] for index in order),
        tuned=tuple(one.tuned[index] for index in order),
    )
    found = interval(one)
    assert found == interval(other)
    assert found.low <= found.high


def test_of_as_many_rows_as_are_kept_it_takes_seconds() -> None:
    assert interval(compared(noise(MOST_ROWS, -0.3))).rows == MOST_ROWS

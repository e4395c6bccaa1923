"""Sampling and splitting: no row is lost or repeated, and the same seed takes the same rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.reasons import Reason
from lorafinetune.api.spec import Evaluation, Training
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.selection import Sampling, select, shares, split
from lorafinetune_stages.prepare.stage import choose

some_counts = st.lists(st.integers(1, 60), min_size=1, max_size=6)
counts_of_datasets = st.lists(st.integers(0, 60), min_size=1, max_size=6)
samplings = st.sampled_from(("head", "shuffle", "proportional"))
seeds = st.integers(0, 2**31 - 1)
SHUFFLED = [2, 14, 15, 16, 17]
SPLIT = [[0, 1, 2, 5, 6, 7, 8], [3, 4, 9]]


@pytest.mark.parametrize(
    ("counts", "limit", "sampling", "expected"),
    [
        pytest.param([3, 2], None, "head", [0, 1, 2, 3, 4], id="without a limit every row is used"),
        pytest.param([3, 2], 9, "shuffle", [0, 1, 2, 3, 4], id="so it is under a limit that is not reached"),
        pytest.param([3, 2], 4, "head", [0, 1, 2, 3], id="head takes the first in merge order"),
        pytest.param([6, 2], 4, "proportional", [0, 1, 2, 6], id="proportional takes a head of each"),
        pytest.param([9, 1], 3, "proportional", [0, 1, 2], id="a small share may be rounded to nothing"),
        pytest.param([0, 4], 2, "proportional", [0, 1], id="an empty dataset has no share"),
    ],
)
def test_rows_are_selected(
    counts: list[int], limit: int | None, sampling: Sampling, expected: list[int]
) -> None:
    assert list(select(counts, limit, sampling, seed=42)) == expected


def test_a_random_choice_is_the_same_everywhere() -> None:
    """The sequence is written down: another Python must make it too, or keys lie."""
    assert list(select([20], 5, "shuffle", seed=42)) == SHUFFLED
    assert [list(rows) for rows in split(range(10), 0.3, seed=42)] == SPLIT


@given(counts_of_datasets, st.integers(1, 400), samplings, seeds)
def test_selection_loses_and_repeats_nothing(
    counts: list[int], limit: int, sampling: Sampling, seed: int
) -> None:
    rows = list(select(counts, limit, sampling, seed))
    assert rows == sorted(set(rows))
    assert len(rows) == min(limit, sum(counts))
    assert set(rows) <= set(range(sum(counts)))
    assert rows == list(select(counts, limit, sampling, seed))


@given(some_counts, st.data())
def test_shares_differ_from_the_exact_part_by_less_than_a_row(counts: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, sum(counts)))
    parts = shares(counts, limit)
    assert sum(parts) == limit
    for count, part in zip(counts, parts, strict=True):
        assert abs(part - count * limit / sum(counts)) < 1
        assert part <= count


@given(st.integers(0, 200), st.floats(0, 1), seeds)
def test_a_split_loses_and_repeats_nothing(total: int, fraction: float, seed: int) -> None:
    train, held_out = (list(rows) for rows in split(range(total), fraction, seed))
    assert sorted(train + held_out) == list(range(total))
    assert train == sorted(train)
    assert held_out == sorted(held_out)
    assert (train, held_out) == tuple(list(rows) for rows in split(range(total), fraction, seed))
    if total > 1 and fraction > 0:
        assert 1 <= len(held_out) < total
        assert abs(len(held_out) - fraction * total) <= 1


def training(fraction: str | None, max_samples: int | None = None) -> Training:
    evaluation = Evaluation(fraction=fraction) if fraction else None
    return Training(epochs="1", evaluation=evaluation, max_samples=max_samples)


def test_the_recipe_takes_a_thousand_rows_and_holds_out_a_hundred() -> None:
    rows = choose([14_000, 2_000], training("0.1", 1000))
    assert (len(rows.train), len(rows.held_out)) == (900, 100)
    assert sorted([*rows.train, *rows.held_out]) == list(range(1000))


@pytest.mark.parametrize(
    ("counts", "fraction"),
    [pytest.param([1], "0.5", id="one row"), pytest.param([8], "0", id="a fraction of zero")],
)
def test_an_evaluation_without_rows_is_refused(counts: list[int], fraction: str) -> None:
    with pytest.raises(StageError) as caught:
        choose(counts, training(fraction))
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert (
        caught.value.message == f"training.evaluation.fraction: {fraction} of {counts[0]} rows holds none out"
    )

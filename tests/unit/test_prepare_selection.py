"""Sampling and splitting: no row is lost or repeated, and the same seed takes the same rows."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.selection import Rows, Sampling, choose, select, shares, split, split_groups

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
    assert [list(rows) for rows in split(range(10), 3, seed=42)] == SPLIT


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


@pytest.mark.parametrize(
    ("counts", "weights", "limit", "expected"),
    [
        pytest.param([4, 4], ["1", "0.5"], None, [4, 2], id="without a limit, the heaviest is used whole"),
        pytest.param([4, 4], ["2", "1"], None, [4, 2], id="so it is whatever the unit"),
        pytest.param([4, 8], ["1", "1"], 6, [2, 4], id="equal weights are the sizes alone"),
        pytest.param([10, 1000], ["100", "1"], 8, [4, 4], id="a small dataset can have an equal share"),
        pytest.param([10, 1000], ["100", "1"], 500, [10, 10], id="no row is taken twice"),
        pytest.param([0, 4], ["3", "1"], None, [0, 4], id="an empty dataset bounds nothing"),
    ],
)
def test_weights_mix_the_datasets(
    counts: list[int], weights: list[str], limit: int | None, expected: list[int]
) -> None:
    rows = select(counts, limit, "proportional", 42, [Fraction(weight) for weight in weights])
    first = [row for row in rows if row < counts[0]]
    assert [len(first), len(rows) - len(first)] == expected


@given(st.integers(1, 200), st.data(), seeds)
def test_a_split_loses_and_repeats_nothing(total: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, total))
    train, held_out = (list(rows) for rows in split(range(total), count, seed))
    assert sorted(train + held_out) == list(range(total))
    assert train == sorted(train)
    assert held_out == sorted(held_out)
    assert len(held_out) == count
    assert (train, held_out) == tuple(list(rows) for rows in split(range(total), count, seed))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 60), seeds)
def test_a_split_by_groups_never_parts_one(groups: list[int], count: int, seed: int) -> None:
    train, held_out = split_groups(range(len(groups)), count, seed, groups)
    assert sorted([*train, *held_out]) == list(range(len(groups)))
    assert len(held_out) <= count
    assert {groups[row] for row in train}.isdisjoint(groups[row] for row in held_out)
    left = [groups.count(group) for group in {groups[row] for row in train}]
    assert all(len(held_out) + size > count for size in left)


def chosen(
    counts: Sequence[int],
    names: Sequence[str | None] = (),
    prompts: Sequence[int] = (),
    **training: Any,
) -> Rows:
    """The rows that are chosen of datasets with that many rows each."""
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    pools = [range(end - count, end) for count, end in zip(counts, ends, strict=True)]
    given = names or [None] * len(counts)
    datasets = [Dataset(source="s3://raw/a", name=name) for name in given]
    evaluation = training.pop("evaluation", None)
    wanted = Evaluation(**evaluation) if evaluation else None
    return choose(pools, datasets, Training(epochs="1", evaluation=wanted, **training), prompts)


def test_the_recipe_takes_a_thousand_rows_and_holds_out_a_hundred() -> None:
    rows = chosen([14_000, 2_000], evaluation={"fraction": "0.1"}, max_samples=1000)
    assert (len(rows.train), len(rows.held_out)) == (900, 100)
    assert sorted([*rows.train, *rows.held_out]) == list(range(1000))


def test_a_number_of_rows_is_held_out() -> None:
    rows = chosen([8, 2], evaluation={"count": 3})
    assert [list(rows.train), list(rows.held_out)] == SPLIT


def test_the_rows_of_a_named_dataset_are_held_out_and_are_no_samples() -> None:
    rows = chosen([3, 4, 5], [None, "test", None], evaluation={"dataset": "test"}, max_samples=5)
    assert (list(rows.train), list(rows.held_out)) == ([0, 1, 2, 7, 8], [3, 4, 5, 6])


def test_rows_with_equal_prompts_are_held_out_together() -> None:
    rows = chosen([6], prompts=[1, 2, 1, 2, 3, 1], evaluation={"count": 3, "group_by": "prompt"})
    held_out = list(rows.held_out)
    assert held_out in ([0, 2, 5], [1, 3, 4])


def test_rows_that_were_left_out_are_not_chosen() -> None:
    datasets = [Dataset(source="s3://raw/a")] * 2
    rows = choose([[0, 2], [5]], datasets, Training(epochs="1", max_samples=2), ())
    assert list(rows.train) == [0, 2]


@pytest.mark.parametrize(
    ("counts", "prompts", "evaluation", "message", "hint"),
    [
        pytest.param(
            [1],
            [1],
            {"fraction": "0.5"},
            "fraction: 0.5 of 1 rows holds none out",
            "Raise it, add rows",
            id="one row",
        ),
        pytest.param(
            [8],
            range(8),
            {"fraction": "0"},
            "fraction: 0 of 8 rows holds none out",
            "Raise it, add rows",
            id="a fraction of zero",
        ),
        pytest.param(
            [8],
            range(8),
            {"count": 8},
            "count: 8 of 8 rows leaves none to train on",
            "Lower it, add rows",
            id="every row",
        ),
        pytest.param(
            [8],
            range(8),
            {"count": 99},
            "count: 99 of 8 rows leaves none to train on",
            "Lower it, add rows",
            id="more than all",
        ),
        pytest.param(
            [8],
            range(8),
            {"dataset": "a"},
            "dataset: a of 8 rows leaves none to train on",
            "Add a dataset with other rows",
            id="the only dataset",
        ),
        pytest.param(
            [0, 8],
            range(8),
            {"dataset": "a"},
            "dataset: all rows of a equal earlier ones, and none is left to hold out",
            "Put it first in `datasets`, leave out `training.deduplicate`",
            id="a dataset that repeats others",
        ),
        pytest.param(
            [8],
            [1] * 8,
            {"fraction": "0.1", "group_by": "prompt"},
            "fraction: 0.1 of 8 rows holds none out: the smallest group of equal prompts has 8 rows",
            "Leave out `groupBy`",
            id="all prompts equal",
        ),
        pytest.param(
            [8],
            [1, 2, 1, 2, 1, 2, 1, 1],
            {"count": 2, "group_by": "prompt"},
            "count: 2 of 8 rows holds none out: the smallest group of equal prompts has 3 rows",
            "Hold out at least as many, leave out `groupBy`",
            id="no group that is small enough",
        ),
    ],
)
def test_an_evaluation_that_leaves_nothing_is_refused_with_what_would_help(
    counts: list[int], prompts: Sequence[int], evaluation: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(StageError) as caught:
        chosen(counts, ["a", *["b"] * (len(counts) - 1)], prompts, evaluation=evaluation)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert caught.value.message == f"training.evaluation.{message}"
    assert caught.value.hint == f"{hint}, or leave out `training.evaluation`."


@pytest.mark.parametrize(
    ("weights", "training", "warnings"),
    [
        pytest.param(
            [None, "100"],
            {},
            ["20 of 1010 rows are used: datasets[1].weight asks for more rows than it has"],
            id="by a weight that a small dataset can't carry",
        ),
        pytest.param(
            [None, "100"],
            {"max_samples": 500},
            ["20 of 1010 rows are used: datasets[1].weight asks for more rows than it has"],
            id="so it is where fewer were asked for",
        ),
        pytest.param([None, "100"], {"max_samples": 20}, [], id="not where the weights can be kept"),
        pytest.param(["0.5", None], {}, [], id="nor by a weight that asks for fewer rows"),
        pytest.param([None, None], {}, [], id="nor without weights"),
    ],
)
def test_that_weights_shrink_what_is_used_is_a_warning(
    weights: list[str | None], training: dict[str, Any], warnings: list[str]
) -> None:
    datasets = [Dataset(source="s3://raw/a", weight=weight) for weight in weights]
    wanted = Training(epochs="1", sampling="proportional", **training)
    rows = choose([range(1000), range(1000, 1010)], datasets, wanted, ())
    assert rows.warnings == warnings

"""Conversations in a row: none is lost, moved or padded, and every learned token is predicted by the one
before it."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.train.packing import Pack, Row, even, pack, packs, shares, shortest

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def row(length: int, first: int = 0, learned_from: int = 0) -> Row:
    tokens = list(range(first, first + length))
    return {
        "input_ids": tokens,
        "attention_mask": [1] * length,
        "labels": [token if place >= learned_from else -100 for place, token in enumerate(tokens)],
    }


def rows(sizes: Sequence[int]) -> list[Row]:
    return [row(size, first=1000 * number, learned_from=number % 3) for number, size in enumerate(sizes)]


def sizes(packed: Pack) -> list[int]:
    return [end - start for start, end in pairwise(packed.bounds)]


def test_two_conversations_in_a_row() -> None:
    assert pack([row(3, first=10), row(4, first=20, learned_from=2)]) == Pack(
        tokens=(10, 11, 12, 20, 21, 22, 23),
        positions=(0, 1, 2, 0, 1, 2, 3),
        bounds=(0, 3, 7),
        sources=(0, 1, 4, 5),
        targets=(11, 12, 22, 23),
    )


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(100, [[5, 5, 5, 5]], id="all in one where they fit"),
        pytest.param(20, [[5, 5, 5, 5]], id="all in one where they just fit"),
        pytest.param(19, [[5, 5, 5], [5]], id="the last in its own where they don't"),
        pytest.param(5, [[5], [5], [5], [5]], id="one by one"),
        pytest.param(3, [[5], [5], [5], [5]], id="one that is longer than the limit has its own"),
    ],
)
def test_the_cut_of_a_step(limit: int, expected: list[list[int]]) -> None:
    assert [sizes(packed) for packed in packs(rows([5] * 4), limit)] == expected


@given(sizes_=lengths, limit=st.integers(1, 60))
def test_no_token_is_lost_moved_or_learned_twice(sizes_: list[int], limit: int) -> None:
    cut = packs(rows(sizes_), limit)
    assert [token for packed in cut for token in packed.tokens] == [
        token for each in rows(sizes_) for token in each["input_ids"]
    ]
    assert [target for packed in cut for target in packed.targets] == [
        label for each in rows(sizes_) for label in each["labels"][1:] if label != -100
    ]
    assert [size for packed in cut for size in sizes(packed)] == sizes_


@given(sizes_=lengths, multiple=st.integers(1, 64))
def test_a_token_is_predicted_by_the_one_before_it_in_its_conversation(
    sizes_: list[int], multiple: int
) -> None:
    for packed in packs(rows(sizes_), 50, multiple):
        for source, target in zip(packed.sources, packed.targets, strict=True):
            assert packed.tokens[source + 1] == target
            assert packed.positions[source + 1] == packed.positions[source] + 1


@given(sizes_=lengths, multiple=st.integers(1, 64))
def test_padding_lengthens_the_last_conversation_alone(sizes_: list[int], multiple: int) -> None:
    (plain,), (padded,) = packs(rows(sizes_), 1000), packs(rows(sizes_), 1000, multiple)
    assert len(padded.tokens) % multiple == 0
    assert len(padded.tokens) - len(plain.tokens) < multiple
    assert padded.tokens[: len(plain.tokens)] == plain.tokens
    assert padded.bounds[:-1] == plain.bounds[:-1]
    assert (padded.sources, padded.targets) == (plain.sources, plain.targets)
    assert len(padded.positions) == len(padded.tokens) == padded.bounds[-1]
    assert padded.positions[padded.bounds[-2] :] == tuple(range(padded.bounds[-1] - padded.bounds[-2]))


@pytest.mark.parametrize(
    ("dealt", "expected"),
    [
        pytest.param([4, 3, 2, 1], [[4, 1], [3, 2]], id="the longest first, to who has the fewest tokens"),
        pytest.param([1, 2, 3, 4], [[1, 4], [2, 3]], id="in the order that they had"),
        pytest.param([9, 1, 1, 1], [[9], [1, 1, 1]], id="not by the number of rows"),
        pytest.param([5], [[5], []], id="one row for two"),
    ],
)
def test_the_rows_of_a_step_are_shared_by_their_tokens(dealt: list[int], expected: list[list[int]]) -> None:
    assert [[len(each["input_ids"]) for each in share] for share in shares(rows(dealt), 2)] == expected


@given(lengths, st.integers(1, 5))
def test_every_row_is_in_one_share_and_no_share_is_much_larger(dealt: list[int], number: int) -> None:
    given_rows = rows(dealt)
    found = shares(given_rows, number)
    places = [[given_rows.index(each) for each in share] for share in found]
    assert sorted(place for share in places for place in share) == list(range(len(dealt)))
    assert all(share == sorted(share) for share in places)
    tokens = [sum(dealt[place] for place in share) for share in places]
    assert max(tokens) - min(tokens) <= max(dealt)


EVEN: dict[str, tuple[list[list[str]], int, list[str], int]] = {
    "the passes alone where no rank has more": ([["a", "b"], ["c"]], 0, ["a", "b"], 0),
    "idle ones behind them where another has more": ([["a", "b"], ["c"]], 1, ["c", "idle"], 1),
    "idle ones alone where there is none": ([["a", "b"], []], 1, ["idle", "idle"], 2),
}


@pytest.mark.parametrize("sentence", EVEN)
def test_a_rank_makes(sentence: str) -> None:
    passes, own, expected, idle = EVEN[sentence]
    assert even(passes, own, lambda: "idle") == (expected, idle)


def test_the_shortest_row_idles() -> None:
    assert shortest(rows([3, 1, 2]))["input_ids"] == rows([3, 1, 2])[1]["input_ids"]

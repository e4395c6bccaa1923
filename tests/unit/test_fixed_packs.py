"""Whole conversations in packs of a fixed size: none is lost, none is cut, and little room is left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.contract.effort import FULL, leaves_room
from lorafinetune_stages.fixed_packs import FixedPacks, fill

EMOLLM: Final = Path(__file__).parents[2] / "samples" / "data" / "emollm"
CASES = st.integers(1, 200).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size))))
"""A size, and lengths of rows that are not above it."""


def filled(lengths: Sequence[int], size: int, seed: int = 42) -> FixedPacks:
    return fill(np.array(lengths, dtype=np.int64), size, seed)


def listed(packs: FixedPacks) -> list[list[int]]:
    return [packs[number].tolist() for number in range(len(packs))]


def fullness(lengths: Sequence[int], size: int) -> float:
    return sum(lengths) / size / len(filled(lengths, size))


def first_fit_decreasing(lengths: Sequence[int], size: int) -> int:
    """How many packs it makes."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        at = next((at for at, room in enumerate(rooms) if room >= length), len(rooms))
        rooms[at:] = [(rooms[at] if at < len(rooms) else size) - length, *rooms[at + 1 :]]
    return len(rooms)


def lengths_of(name: str) -> list[int]:
    """Of the rows of one of EmoLLM's files, in characters, which stand in for tokens."""
    text = (EMOLLM / name).read_text(encoding="utf-8")
    rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    return [len(json.dumps(row, ensure_ascii=False)) for row in rows]


@given(CASES)
def test_every_row_is_in_one_pack_and_no_pack_is_over_the_size(case: tuple[int, list[int]]) -> None:
    size, lengths = case
    packs = listed(filled(lengths, size))
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert all(0 < sum(lengths[row] for row in pack) <= size for pack in packs)


@given(CASES)
def test_how_far_it_is_is_told_until_every_row_has_a_pack(case: tuple[int, list[int]]) -> None:
    size, lengths = case
    told: list[int] = []
    packs = fill(np.array(lengths, dtype=np.int64), size, seed=1, advance=told.append)
    assert sum(told) == len(lengths)
    assert len(told) >= len(packs)


@given(CASES)
def test_there_are_no_more_packs_than_first_fit_decreasing_makes_but_for_full_ones(
    case: tuple[int, list[int]],
) -> None:
    size, lengths = case
    made = len(filled(lengths, size))
    assert made <= first_fit_decreasing(lengths, size) or not leaves_room(sum(lengths), made, size)


@pytest.mark.parametrize("size", [2048, 4096, 8192, 16384])
def test_the_rows_of_emollm_fill_their_packs(size: int) -> None:
    names = ("aiwei.json", "ruozhiba_raw.jsonl", "self_cognition_EmoLLM.json")
    assert fullness([length for name in names for length in lengths_of(name)], size) >= FULL


@pytest.mark.parametrize("size", [3072, 4096, 8192, 16384])
def test_rows_of_much_the_same_length_fill_theirs(size: int) -> None:
    assert fullness(lengths_of("aiwei.json"), size) >= FULL


def test_rows_of_much_the_same_length_are_not_packed_the_longest_first() -> None:
    """By the numbers that docs/design/training-speed.md has."""
    lengths, size = lengths_of("aiwei.json"), 4096
    longest_first = sum(lengths) / (first_fit_decreasing(lengths, size) * size)
    assert (round(fullness(lengths, size), 3), round(longest_first, 3)) == (0.997, 0.958)


@pytest.mark.parametrize("size", [2048, 3000, 4096, 8192])
@pytest.mark.parametrize("spread", [0.4, 0.8, 1.2])
def test_lengths_as_those_of_most_sets_fill_their_packs(size: int, spread: float) -> None:
    drawn = np.random.default_rng(0).lognormal(5.8, spread, 20_000)
    assert fullness(np.clip(drawn, 10, 2048).astype(np.int64).tolist(), size) >= FULL


def test_lengths_that_only_pair_up_are_packed_the_longest_first() -> None:
    """In the order drawn, many a 40 would take the room of a 60."""
    lengths = [60, 40] * 100
    assert len(filled(lengths, 100)) == 100


def test_a_pack_has_long_and_short_rows() -> None:
    """Packed the longest first, the first half would be in other packs than the second."""
    lengths = [400] * 500 + [20] * 500
    packs = listed(filled(lengths, 8192))
    mixed = sum(0.25 < np.mean([row < 500 for row in pack]) < 0.75 for pack in packs)
    assert mixed >= 0.8 * len(packs)


def test_the_seed_says_which_rows_share_a_pack() -> None:
    lengths = lengths_of("ruozhiba_raw.jsonl")
    one, again, other = (listed(filled(lengths, 4096, seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("tokens", "packs", "expected"),
    [
        pytest.param(981, 10, False, id="full"),
        pytest.param(979, 10, False, id="not full, but in nine there is no place"),
        pytest.param(5000, 51, False, id="one more than needed, and full"),
        pytest.param(4900, 51, True, id="two more than needed, and not full"),
        pytest.param(1, 1, False, id="one pack"),
    ],
)
def test_the_room_that_packs_of_a_hundred_leave(tokens: int, packs: int, expected: bool) -> None:
    assert leaves_room(tokens, packs, 100) is expected

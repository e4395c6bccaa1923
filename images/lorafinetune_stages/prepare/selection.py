"""Which rows are used, and which of them are held out: by numbers alone, the same on every machine.

Random choices come from `random.Random` with a text as seed: its sequence is part of Python's promise,
and does not depend on PYTHONHASHSEED, on numpy or on torch.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Sampling = Literal["head", "shuffle", "proportional"]


@dataclass(frozen=True)
class Rows:
    """Numbers of the rows to train on, and of those that are held out; both ascending."""

    train: Sequence[int]
    held_out: Sequence[int]


def select(counts: Sequence[int], limit: int | None, sampling: Sampling, seed: int) -> Sequence[int]:
    """Numbers of the rows that are used, ascending. counts: rows of every dataset, which are numbered
    through in merge order. limit: how many are used at most.

    head: the first. shuffle: a random choice. proportional: the first of every dataset, as many as its
    share of all rows, rounded so that the sum is the limit.
    """
    total = sum(counts)
    if limit is None or limit >= total:
        return range(total)
    match sampling:
        case "head":
            return range(limit)
        case "shuffle":
            return sorted(random.Random(f"sampling {seed}").sample(range(total), limit))  # noqa: S311
        case "proportional":
            return _heads(counts, shares(counts, limit))


def shares(counts: Sequence[int], limit: int) -> list[int]:
    """Parts of `limit` in proportion to the counts: largest remainder, ties to the first."""
    total = sum(counts)
    whole = [count * limit // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda index: (-(counts[index] * limit % total), index))
    for index in by_remainder[: limit - sum(whole)]:
        whole[index] += 1
    return whole


def split(rows: Sequence[int], fraction: float, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """The rows to train on and the rows to hold out, both ascending.

    The nearest whole number to the fraction is held out; at least one row, and never the last one.
    """
    if not fraction or len(rows) < 2:
        return rows, ()
    count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
    held_out = set(random.Random(f"split {seed}").sample(range(len(rows)), count))  # noqa: S311
    return (
        [row for index, row in enumerate(rows) if index not in held_out],
        [rows[index] for index in sorted(held_out)],
    )


def _heads(counts: Sequence[int], parts: Sequence[int]) -> list[int]:
    rows: list[int] = []
    start = 0
    for count, part in zip(counts, parts, strict=True):
        rows.extend(range(start, start + part))
        start += count
    return rows

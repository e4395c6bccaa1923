"""The conversations of one optimizer step, put one after another: no padding, and none sees another.

A step is cut into packs that fit the memory. Which conversations share a pack shapes no result but for
the order in which floats are added: every loss is divided by the learned tokens of the whole step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeVar

IGNORED: Final = -100
"""Label of a token that is not learned."""
PADDING: Final = 0
"""Any token: nothing is learned from it, and no conversation sees it."""

Row = Mapping[str, Sequence[int]]
T = TypeVar("T")


@dataclass(frozen=True)
class Pack:
    """Some conversations in a row. tokens: all of them. positions: of each token in its conversation.
    bounds: where conversations begin, and where the last one ends. targets: the learned tokens;
    sources: the places that predict them."""

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    bounds: tuple[int, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]


def packs(rows: Sequence[Row], limit: int, multiple: int = 1) -> list[Pack]:
    """The rows in their order, in packs of at most `limit` tokens; a longer row has its own.

    multiple: the length of a pack is rounded up to one of it, by lengthening its last conversation.
    """
    return [_padded(pack(group), multiple) for group in groups(rows, limit)]


def pack(rows: Iterable[Row]) -> Pack:
    """The rows in one pack. A row's first token has no predecessor, so it is never learned."""
    rows = list(rows)
    bounds = (0, *accumulate(len(row["input_ids"]) for row in rows))
    pairs = [
        (start + place - 1, label)
        for start, row in zip(bounds, rows, strict=False)
        for place, label in enumerate(row["labels"])
        if place and label != IGNORED
    ]
    return Pack(
        tokens=tuple(token for row in rows for token in row["input_ids"]),
        positions=tuple(place for row in rows for place in range(len(row["input_ids"]))),
        bounds=bounds,
        sources=tuple(source for source, _ in pairs),
        targets=tuple(target for _, target in pairs),
    )


def shares(rows: Sequence[Row], number: int) -> list[list[Row]]:
    """The rows of a step, dealt out so that every share has about as many tokens: the longest first, each to
    the share that has the fewest so far. A share keeps the order of its rows; one may be empty."""
    dealt: list[list[int]] = [[] for _ in range(number)]
    tokens = [0] * number
    for place in sorted(range(len(rows)), key=lambda place: -len(rows[place]["input_ids"])):
        least = tokens.index(min(tokens))
        dealt[least].append(place)
        tokens[least] += len(rows[place]["input_ids"])
    return [[rows[place] for place in sorted(places)] for places in dealt]


def shortest(rows: Sequence[Row]) -> Row:
    return min(rows, key=lambda row: len(row["input_ids"]))


def even(passes: Sequence[Sequence[T]], own: int, idle: Callable[[], T]) -> tuple[list[T], int]:
    """The passes of a rank, and behind them as many idle ones as it takes to have as many as any rank; and
    how many these are. passes: of all ranks."""
    missing = max(len(each) for each in passes) - len(passes[own])
    return [*passes[own], *(idle() for _ in range(missing))], missing


def count_learned(rows: Iterable[Row]) -> int:
    """Tokens that are learned in the rows. A row's first token has no predecessor, so it is none of them."""
    return sum(label != IGNORED for row in rows for label in row["labels"][1:])


def groups(rows: Iterable[Row], limit: int) -> list[list[Row]]:
    """The rows in their order, as many together as have at most `limit` tokens, and at least one."""
    found: list[list[Row]] = []
    free = 0
    for row in rows:
        length = len(row["input_ids"])
        if not found or length > free:
            found.append([])
            free = limit
        found[-1].append(row)
        free -= length
    return found


def _padded(packed: Pack, multiple: int) -> Pack:
    """The padding belongs to the last conversation, which can't see what comes after it."""
    length = len(packed.tokens)
    added = -length % multiple
    last = packed.positions[-1]
    return Pack(
        tokens=packed.tokens + (PADDING,) * added,
        positions=packed.positions + tuple(range(last + 1, last + 1 + added)),
        bounds=(*packed.bounds[:-1], length + added),
        sources=packed.sources,
        targets=packed.targets,
    )

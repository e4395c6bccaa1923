"""What is said of datasets that have too many bad rows: a status has only so much room, so places are shared.

With its hint the message must fit a termination message, which is JSON.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

SHOWN_PLACES: Final = 20
"""Of all datasets together."""
MAX_MESSAGE: Final = 3200
"""Bytes, as JSON has them."""


@dataclass(frozen=True)
class Refused:
    """A dataset. verdict: what is wrong with it. bad: how many rows. logged: the first, at least one."""

    verdict: str
    bad: int
    logged: Sequence[str]


def describe(refused: Sequence[Refused]) -> str:
    """As many datasets as fit with a place each, and with them as many places as fit."""
    texts = _descriptions(refused)
    return next(text for text in texts if len(json.dumps(text, ensure_ascii=False).encode()) <= MAX_MESSAGE)


def _descriptions(refused: Sequence[Refused]) -> Iterator[str]:
    """From the fullest on. The last one always fits: a verdict and a place are bounded."""
    for datasets in range(min(len(refused), SHOWN_PLACES), 0, -1):
        left = len(refused) - datasets
        more = [f"and {left} more {'datasets' if left > 1 else 'dataset'}"] if left else []
        for places in range(SHOWN_PLACES, datasets - 1, -1):
            shares = _shares([len(one.logged) for one in refused[:datasets]], places)
            yield "\n".join([*map(_described, refused, shares), *more])


def _shares(sizes: Sequence[int], most: int) -> list[int]:
    """So many in all, as evenly as the sizes allow; the first get what is left over."""
    turns = [index for turn in range(max(sizes)) for index, size in enumerate(sizes) if turn < size][:most]
    return [turns.count(index) for index in range(len(sizes))]


def _described(one: Refused, shown: int) -> str:
    lines = [one.verdict, *(f"  {place}" for place in one.logged[:shown])]
    left, logged = one.bad - shown, len(one.logged) - shown
    if left:
        where = "" if not logged else ", in the log" if logged == left else f", {logged} of them in the log"
        lines.append(f"  and {left} more{where}")
    return "\n".join(lines)

"""The pieces that rows are made of: each is encoded, and some of them only once for many rows."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from lorafinetune_stages.prepare.rendering import Piece

RenderedTurns = Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
"""Prompt and answer of every turn."""
Turns = Sequence[tuple[Sequence[int], Sequence[int]]]
"""The same, with the numbers of the pieces."""
Parts = Sequence[tuple[int, int]]
"""How many pieces they have."""


class PieceIndex(NamedTuple):
    """numbers: of the pieces of all rows, one row after another. parts: of every row."""

    pieces: Sequence[Piece]
    numbers: Any
    parts: Sequence[Parts]

    @classmethod
    def of(cls, rows: Sequence[RenderedTurns]) -> "PieceIndex":
        """Equal pieces have one number."""
        found: dict[Piece, int] = {}
        every = [
            found.setdefault(piece, len(found))
            for turns in rows
            for side in chain.from_iterable(turns)
            for piece in side
        ]
        parts = [[(len(prompt), len(answer)) for prompt, answer in turns] for turns in rows]
        return cls(list(found), np.array(every, np.int64), parts)

    @property
    def sides(self) -> Any:
        """How many pieces every prompt and every answer has, in turn."""
        return np.fromiter(chain.from_iterable(chain.from_iterable(self.parts)), np.int64)

    def turns(self) -> Iterator[Turns]:
        """The numbers of every row."""
        numbers = iter(self.numbers.tolist())
        for parts in self.parts:
            yield [(list(islice(numbers, asked)), list(islice(numbers, said))) for asked, said in parts]

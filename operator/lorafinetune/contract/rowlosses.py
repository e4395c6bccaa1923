"""What each held-out row costs a model. Without it, nobody could tell whether a difference of losses is
chance.

The file is bounded: if there are more rows than MOST_ROWS, rows are added up evenly. The totals stay the
same, and the parts that remain are still drawn alike.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, model_validator

from lorafinetune.api.types import Count, Model

MOST_ROWS: Final = 4096

Nats = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=1, le=2**53)]
PerRow = Annotated[tuple[Nats, ...], Field(max_length=MOST_ROWS)]


class RowLosses(Model, extra="ignore"):
    """One model. rows: how many were evaluated. tokens, nats: of each row, how many are learned (1 for a
    pair), and the negative log-likelihood of all of them."""

    rows: Count
    tokens: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=MOST_ROWS)]
    nats: PerRow

    @model_validator(mode="after")
    def _fits(self) -> "RowLosses":
        if len(self.nats) != len(self.tokens):
            raise ValueError("tokens and nats are of different rows")
        return self

    @classmethod
    def of(cls, tokens: Sequence[int], nats: Sequence[float]) -> "RowLosses":
        """Of at least one row. Values that are no number stay: whoever asks for the loss will see."""
        parts = min(len(tokens), MOST_ROWS)
        return cls.model_construct(
            rows=len(tokens),
            tokens=tuple(sum(tokens[part::parts]) for part in range(parts)),
            nats=tuple(sum(nats[part::parts]) for part in range(parts)),
        )

    @property
    def loss(self) -> float:
        """Nats per learned token, or per pair."""
        return math.fsum(self.nats) / sum(self.tokens)


class Compared(Model, extra="ignore"):
    """The base and the tuned model on the same rows, as RowLosses has them."""

    rows: Count
    tokens: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=MOST_ROWS)]
    base: PerRow
    tuned: PerRow

    @model_validator(mode="after")
    def _fits(self) -> "Compared":
        if not len(self.base) == len(self.tuned) == len(self.tokens):
            raise ValueError("base, tuned and tokens are of different rows")
        return self

    @classmethod
    def of(cls, base: RowLosses, tuned: RowLosses) -> "Compared | None":
        """None where they are of different rows."""
        if (base.rows, base.tokens) != (tuned.rows, tuned.tokens):
            return None
        return cls(rows=base.rows, tokens=base.tokens, base=base.nats, tuned=tuned.nats)

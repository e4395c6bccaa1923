"""How far chance goes: a bootstrap interval of the difference between the tuned model's loss and its base's.

Rows are drawn with replacement, each with both of its losses: what makes a row hard for both models cancels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from lorafinetune.contract.rowlosses import Compared

RESAMPLES: Final = 2000
OUTSIDE: Final = RESAMPLES // 40
"""Of the resamples, how many are below the interval, and how many above: 95 % are within."""
SEED: Final = 0

Part = tuple[float, int]
"""By how many nats a row costs the tuned model more, and its learned tokens."""


@dataclass(frozen=True)
class Interval:
    """In nats per learned token, or per pair: below 0 where the tuned model is better. rows: evaluated."""

    rows: int
    change: float
    low: float
    high: float

    @property
    def spans_zero(self) -> bool:
        """Whether chance alone may have made the difference."""
        return self.low <= 0 <= self.high


def interval(compared: Compared) -> Interval:
    """The same for the same rows, in whatever order."""
    differences = [tuned - base for tuned, base in zip(compared.tuned, compared.base, strict=True)]
    parts = sorted(zip(differences, compared.tokens, strict=True))
    random = Random(SEED)  # noqa: S311 - a sample, not a secret
    changes = sorted(_change(random.choices(parts, k=len(parts))) for _ in range(RESAMPLES))
    return Interval(compared.rows, _change(parts), changes[OUTSIDE], changes[-OUTSIDE - 1])


def _change(parts: Sequence[Part]) -> float:
    """By tokens, as the loss itself is a mean over tokens."""
    return sum(nats for nats, _ in parts) / sum(tokens for _, tokens in parts)

"""How long the conversations are, and what that means for batches."""

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

HISTOGRAM_BINS: Final = 8
BATCHES: Final = (2, 8, 32)
"""Rows of a batch for which the padding is told: which it will be is the training's concern."""


def histogram(lengths: Iterable[int], cutoff: int) -> list[dict[str, int | None]]:
    """Rows by length in tokens: equal steps up to the cutoff, and what is over it."""
    tops = [cutoff * step // HISTOGRAM_BINS for step in range(1, HISTOGRAM_BINS + 1)]
    counts = Counter(bisect.bisect_left(tops, length) for length in lengths)
    return [{"upTo": top, "rows": counts[index]} for index, top in enumerate([*tops, None])]


def padding(lengths: Sequence[int], cutoff: int) -> list[dict[str, float]]:
    """The share of a batch that would be padding without packing, for some sizes of batches.

    A batch is rows drawn at random, cut at the cutoff, and as wide as the longest of them.
    """
    if not lengths:
        return []
    kept = np.sort(np.minimum(np.asarray(lengths, dtype=np.int64), cutoff))
    below = np.arange(len(kept) + 1) / len(kept)
    widths = {rows: float(kept @ np.diff(below**rows)) for rows in BATCHES}
    return [{"batch": rows, "share": round(1 - float(kept.mean()) / widths[rows], 3)} for rows in BATCHES]

"""Packs as tensors: what LLaMA-Factory's trainer gets in place of its own padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from lorafinetune_stages.train.packing import Pack, Row, count_learned, even, packs, shares, shortest


def tensors(packed: Pack) -> dict[str, Any]:
    """What the model and the loss get of a pack, by transformers' own names where it has one."""
    longest = max(end - start for start, end in pairwise(packed.bounds))
    bounds = torch.tensor(packed.bounds, dtype=torch.int32)
    return {
        "input_ids": torch.tensor([packed.tokens]),
        "position_ids": torch.tensor([packed.positions]),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
        "sources": torch.tensor(packed.sources, dtype=torch.int64),
        "targets": torch.tensor(packed.targets, dtype=torch.int64),
    }


@dataclass(frozen=True)
class Collator:
    """Makes of the rows of an optimizer step what a rank's step takes: the packs of its share, and of the
    whole step the number of tokens that are learned, and of those that are no padding. together: ranks make
    as many passes, some of them idle."""

    limit: int
    multiple: int = 1
    rank: int = 0
    ranks: int = 1
    together: bool = False

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        found, idle = self._passes(rows)
        return {
            "passes": [tensors(packed) for packed in found],
            "idle": idle,
            "learned": count_learned(rows),
            "tokens": sum(len(row["input_ids"]) for row in rows),
        }

    def _passes(self, rows: Sequence[Row]) -> tuple[list[Pack], int]:
        """And how many of the last ones are idle."""
        given = shares(rows, self.ranks)
        if not self.together:
            return packs(given[self.rank], self.limit, self.multiple), 0
        every = [packs(share, self.limit, self.multiple) for share in given]
        return even(every, self.rank, lambda: packs([shortest(rows)], self.limit, self.multiple)[0])

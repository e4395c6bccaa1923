"""Optimizer steps of a number of tokens: the trainer's dataset has packs of a fixed size in place of rows,
and the trainer gets one at a time, in a new order in every epoch.

Importing this module imports datasets, which takes long.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from lorafinetune_stages.fixed_packs import FixedPacks, Numbers, fill
from lorafinetune_stages.train.packing import Row

READ_ROWS: Final = 100_000
"""At a time."""


def lengths(rows: Dataset) -> Numbers:
    """Of all rows in tokens, by their ends alone: no token is read."""
    read = rows.select_columns(["input_ids"]).with_format("arrow").iter(batch_size=READ_ROWS)
    found = [pc.list_value_length(table["input_ids"]).to_numpy() for table in read]
    return np.concatenate(found).astype(np.int64)


@dataclass(frozen=True)
class TokenSteps:
    """The rows of every step, by the step's number, as torch's loader asks for them."""

    rows: Dataset
    packs: FixedPacks

    @classmethod
    def of(cls, rows: Dataset, tokens: int, seed: int) -> "TokenSteps":
        """tokens: of a step, at most."""
        return cls(rows, fill(lengths(rows), tokens, seed))

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, step: int) -> list[Row]:
        found: list[Row] = self.rows.__getitems__(self.packs[step].tolist())
        return found


def one_step(collator: Callable[[Sequence[Row]], Any], steps: Sequence[Sequence[Row]]) -> Any:
    """A batch of the trainer is one step."""
    (rows,) = steps
    return collator(rows)

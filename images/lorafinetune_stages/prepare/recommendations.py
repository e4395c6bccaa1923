"""What lets a training fit a card that is too small for it: single changes, each of which was tried.

Changes that shape the result least come first, and a larger card comes last.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.training import Training
from lorafinetune.contract import memory
from lorafinetune.contract.memory import GIB, KEPT_LENGTHS, MemorySettings, ModelShape

LEAST_CUTOFF: Final = 128
"""A cutoff below this is no advice."""
LEAST_RANK: Final = 4

SettingsOf = Callable[[Training], MemorySettings]


@dataclass(frozen=True)
class Recommendations:
    """longest: tokens of the longest rows to train on, from the longest on. rows: all of them. share: rows of
    a step on one device. available: bytes that a training may take."""

    training: Training
    datasets: Sequence[Dataset]
    shape: ModelShape
    settings_of: SettingsOf
    longest: Sequence[int]
    rows: int
    share: int
    available: int

    def suggestions(self) -> Iterator[str]:
        yield from (f"`spec.training.{path}`" for path, changed in self._choices() if self._fits(changed))
        if rank := _largest(LEAST_RANK, self.training.lora.rank, self._fits_with_rank):
            yield f"`spec.training.lora.rank: {rank}`"
        if cutoff := _largest(LEAST_CUTOFF, self.longest[0], self._fits_with_cutoff):
            yield f"`spec.training.cutoffLength: {cutoff}`{self._consequence(cutoff)}"
        yield f"`spec.resources.train.gpu.memory: {self._card()}Gi` for a card of that size"

    def _choices(self) -> Iterator[tuple[str, Training]]:
        """Other choices than the training's, with the field that makes them."""
        change, lora = partial(_changed, self.training), partial(_changed, self.training.lora)
        if self.training.packing == "none":
            yield "packing: auto", change(packing="auto")
        if float(self.training.lora.dropout):
            yield 'lora.dropout: "0"', change(lora=lora(dropout="0"))
        if self.training.lora.variant == "dora":
            yield "lora.variant: lora", change(lora=lora(variant="lora"))
        if self.training.precision == "fp32":
            yield "precision: bf16", change(precision="bf16")
        if self._can_be_quantised:
            yield "quantization: nf4", change(quantization="nf4")

    @property
    def _can_be_quantised(self) -> bool:
        """Whether there is something to quantise, and the resource's rules allow it."""
        training = self.training
        if not self.shape.quantised:
            return False
        held = training.quantization == "none" and training.precision in ("auto", "bf16", "fp16")
        return held and training.lora.variant != "dora" and self.settings_of(training).shards == 1

    def _fits(self, training: Training) -> bool:
        return self._least(training, self.shape, self.longest) <= self.available

    def _fits_with_rank(self, rank: int) -> bool:
        share = rank / self.training.lora.rank
        adapter, middles = math.ceil(self.shape.adapter * share), math.ceil(self.shape.middles * share)
        shape = replace(self.shape, adapter=adapter, middles=middles)
        return self._least(self.training, shape, self.longest) <= self.available

    def _fits_with_cutoff(self, cutoff: int) -> bool:
        cut = [min(cutoff, length) for length in self.longest]
        return self._least(self.training, self.shape, cut) <= self.available

    def _least(self, training: Training, shape: ModelShape, longest: Sequence[int]) -> int:
        return memory.smallest(shape, self.settings_of(training), longest, self.share).estimate.total

    def _consequence(self, cutoff: int) -> str:
        """What must be allowed then: a pair that is cut is bad, and any row that keeps no whole answer."""
        if self.training.objective == "pt" or all(dataset.on_bad_row == "skip" for dataset in self.datasets):
            return ""
        longer = sum(length > cutoff for length in self.longest)
        least = "at least " if longer == KEPT_LENGTHS else ""
        return f" with `onBadRow: skip`, since {least}{longer} of {self.rows} rows are longer"

    def _card(self) -> int:
        """GiB of the smallest card on which nothing else need be changed."""
        needed = self._least(self.training, self.shape, self.longest)
        close = max(1, (needed + memory.RESERVE) // GIB)
        return next(size for size in range(close, 2 * close + 2) if memory.usable(size * GIB) >= needed)


def _changed(model: Any, **fields: Any) -> Any:
    return model.model_copy(update=fields)


def _largest(least: int, beyond: int, fits: Callable[[int], bool]) -> int | None:
    """The largest number from `least` on and below `beyond` that fits, where all smaller ones do, too."""
    low, high = least - 1, beyond
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if low >= least else None

"""How one optimizer step is cut into micro-batches: a pure choice from the model's shape and the device.

It shapes no result but for the order in which floats are added, so it is in no key.
"""

from dataclasses import dataclass
from typing import Final

CPU_MICRO_BATCH: Final = 2
"""Measured: with more conversations in one pass padding costs what fewer passes save."""
SMALL_MODEL_BYTES: Final = 4 * 2**30
"""Up to this size a CPU has the memory to keep all activations."""
USABLE_MEMORY: Final = 0.8
RESERVED_BYTES: Final = 2 * 2**30
"""For adapter, optimizer and the device's own needs."""
LOGIT_BYTES: Final = 14
"""Per token and word of the vocabulary: logits in bf16, and in fp32 with their gradient."""
LAYER_BYTES: Final = 40
"""Per token and hidden unit: what one layer keeps while it is recomputed."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the base model. bytes: of its weights."""

    bytes: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @property
    def bytes_per_token(self) -> int:
        """Memory that one more token in a pass takes with gradient checkpointing."""
        kept = 2 * self.layers * self.hidden
        recomputed = LAYER_BYTES * self.hidden + 8 * self.intermediate
        return kept + recomputed + LOGIT_BYTES * self.vocabulary


@dataclass(frozen=True)
class Fit:
    """micro_batch: conversations in one pass on one device. accumulation: passes in one optimizer step."""

    micro_batch: int
    accumulation: int
    gradient_checkpointing: bool


def fit(batch_size: int, gpus: int, cutoff_length: int, shape: Shape, free_bytes: int) -> Fit:
    """The cut for `batch_size` conversations over `gpus` devices (0: the CPU).

    cutoff_length: of the longest conversation, in tokens. free_bytes: of one device; a CPU's cut depends
    on nothing but the batch size, so that equal runs are equal to the bit. gpus must divide batch_size.
    """
    share = batch_size // max(gpus, 1)
    if gpus == 0:
        micro_batch = _largest_divisor(share, CPU_MICRO_BATCH)
        return Fit(micro_batch, share // micro_batch, shape.bytes > SMALL_MODEL_BYTES)
    left = free_bytes * USABLE_MEMORY - shape.bytes - RESERVED_BYTES
    micro_batch = _largest_divisor(share, int(left // (cutoff_length * shape.bytes_per_token)))
    return Fit(micro_batch, share // micro_batch, gradient_checkpointing=True)


def _largest_divisor(number: int, limit: int) -> int:
    return next((size for size in range(min(number, limit), 1, -1) if number % size == 0), 1)

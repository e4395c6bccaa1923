"""How one optimizer step is cut to fit the memory: a pure choice from the model's shape and the device.

It shapes no result but for the order in which floats are added, so it is in no key.
"""

from dataclasses import dataclass
from typing import Final

CPU_MICRO_BATCH: Final = 2
"""Measured: with more conversations in one pass padding costs what fewer passes save."""
CPU_PACK_TOKENS: Final = 1024
SMALL_MODEL_BYTES: Final = 4 * 2**30
"""Up to this size a CPU has the memory to keep all activations."""
USABLE_MEMORY: Final = 0.8
PACKED_MEMORY: Final = 0.9
"""Packs have a known size, so less is left to chance."""
RESERVED_BYTES: Final = 2 * 2**30
"""For adapter, optimizer and the device's own needs."""
LOGIT_BYTES: Final = 14
"""Per token and word of the vocabulary: logits in bf16, and in fp32 with their gradient."""
LAYER_BYTES: Final = 40
"""Per token and hidden unit: what one layer keeps while it is recomputed."""
WORTHWHILE_TOKENS: Final = 2048
"""A pack of so many keeps a card busy."""
EAGER: Final = 2
"""Uncompiled layers keep about twice as much."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the base model. bytes: of its weights."""

    bytes: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int

    @property
    def layer_bytes_per_token(self) -> int:
        """What a compiled layer keeps of a token until the backward pass: in 16 bits, about seven
        vectors of the hidden size, and gate, up and their product in the MLP."""
        return 2 * (7 * self.hidden + 3 * self.intermediate)

    @property
    def bytes_per_token(self) -> int:
        """Memory that one more token in a pass takes with gradient checkpointing."""
        recomputed = LAYER_BYTES * self.hidden + 8 * self.intermediate
        return self._checkpoint_bytes + recomputed + LOGIT_BYTES * self.vocabulary

    def pack_bytes_per_token(self, checkpointing: bool, compiled: bool) -> int:
        """Memory that one more token in a pack takes; its logits are made in chunks."""
        layer = self.layer_bytes_per_token * (1 if compiled else EAGER)
        return self._checkpoint_bytes + 2 * layer if checkpointing else self.layers * layer

    @property
    def _checkpoint_bytes(self) -> int:
        return 2 * self.layers * self.hidden


@dataclass(frozen=True)
class Fit:
    """micro_batch: conversations that the trainer gets at a time on one device. accumulation: how often
    in one optimizer step. pack_tokens: in one pass; 0 where conversations are padded."""

    micro_batch: int
    accumulation: int
    gradient_checkpointing: bool
    pack_tokens: int = 0


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


def fit_packed(
    batch_size: int, gpus: int, cutoff_length: int, shape: Shape, free_bytes: int, compiled: bool
) -> Fit:
    """As fit, for packed conversations: the trainer gets the whole step, and passes are packs of it.

    Recomputing costs a third of the time, so it is done only where packs would be too small without.
    """
    share = batch_size // max(gpus, 1)
    if gpus == 0:
        return Fit(share, 1, shape.bytes > SMALL_MODEL_BYTES, CPU_PACK_TOKENS)
    left = max(free_bytes * PACKED_MEMORY - shape.bytes - RESERVED_BYTES, 0)
    plain, recomputed = (int(left // shape.pack_bytes_per_token(way, compiled)) for way in (False, True))
    recompute = plain < max(cutoff_length, min(WORTHWHILE_TOKENS, share * cutoff_length))
    return Fit(share, 1, recompute, max(recomputed if recompute else plain, cutoff_length))


def _largest_divisor(number: int, limit: int) -> int:
    return next((size for size in range(min(number, limit), 1, -1) if number % size == 0), 1)

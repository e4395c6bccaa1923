"""How one optimizer step is cut to fit the memory: a pure choice from the model's shape and the device.

It shapes no result but for the order in which floats are added, so it is in no key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from lorafinetune.contract.memory import RESERVED_SHARE, MemorySettings, ModelShape, choose, smallest

CPU_MICRO_BATCH: Final = 2
"""Measured: with more conversations in one pass padding costs what fewer passes save."""
CPU_PACK_TOKENS: Final = 1024
SMALL_MODEL_PARAMETERS: Final = 2 * 10**9
"""Up to this size a CPU has the memory to keep all activations."""


@dataclass(frozen=True)
class Fit:
    """micro_batch: conversations, or packs of a fixed size, that the trainer gets at a time on one device.
    accumulation: how often in one optimizer step. pack_tokens: in one pass; 0 where conversations are padded.
    bytes: what is estimated to be used of the device at most; 0 on the CPU."""

    micro_batch: int
    accumulation: int
    gradient_checkpointing: bool
    pack_tokens: int = 0
    bytes: int = 0


def fit(
    batch_size: int,
    gpus: int,
    longest: Sequence[int],
    shape: ModelShape,
    settings: MemorySettings,
    free_bytes: int,
) -> Fit:
    """The cut for `batch_size` conversations over `gpus` devices (0: the CPU), the fastest that fits. Where a
    step is of tokens, it is one pack, and these are the longest that it may have.

    longest: lengths of the longest conversations, from the longest on. free_bytes: of one device; a CPU's
    cut depends on nothing but the batch size, so that equal runs are equal to the bit. gpus must divide
    batch_size, but for steps of tokens. Where nothing fits, the smallest cut is tried. Of packed
    conversations the trainer gets the whole step, and passes are packs of it.
    """
    share = -(-batch_size // max(gpus, 1))
    if gpus == 0:
        return _on_cpu(1 if settings.step_tokens else share, shape, settings.packed)
    available = int(free_bytes * (1 - RESERVED_SHARE))
    cut = choose(shape, settings, longest, share, available) or smallest(shape, settings, longest, share)
    size = cut.estimate.total
    if settings.packed:
        given = 1 if settings.step_tokens else share
        return Fit(given, 1, cut.gradient_checkpointing, cut.tokens, size)
    return Fit(cut.micro_batch, cut.accumulation, cut.gradient_checkpointing, 0, size)


def smaller(tried: Fit) -> Fit | None:
    """About half of it in one pass, activations computed twice; None where that is how it was tried."""
    if tried.pack_tokens:
        return replace(tried, pack_tokens=-(-tried.pack_tokens // 2), gradient_checkpointing=True)
    if tried.micro_batch == 1 and tried.gradient_checkpointing:
        return None
    share = tried.micro_batch * tried.accumulation
    half = next(n for n in range(max(1, tried.micro_batch // 2), 0, -1) if share % n == 0)
    return replace(tried, micro_batch=half, accumulation=share // half, gradient_checkpointing=True)


def _on_cpu(share: int, shape: ModelShape, packed: bool) -> Fit:
    large = shape.parameters > SMALL_MODEL_PARAMETERS
    if packed:
        return Fit(share, 1, large, CPU_PACK_TOKENS)
    micro_batch = CPU_MICRO_BATCH if share % CPU_MICRO_BATCH == 0 else 1
    return Fit(micro_batch, share // micro_batch, large)

"""How much memory of a GPU a training takes, from the sizes of the model and of its longest conversations.

One pure function serves twice: prepare refuses what can't fit the declared card, and train cuts a step for
the card that it finds. Precision, quantisation and packing are given, never chosen: a result must not
depend on the card that was free.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from lorafinetune.api.training import Training
from lorafinetune.contract.keys import resolved_batch_size, resolved_precision

Weights = Literal["bf16", "fp16", "fp32", "nf4"]
"""How the frozen base is held."""
WEIGHTS: Final[dict[str, Weights]] = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "fp8": "bf16"}
"""By the precision of the computation. In fp8 a weight is two bytes too: it is held twice."""

GIB: Final = 2**30
KEPT_LENGTHS: Final = 64
"""As many of the longest conversations are known by their length; the rest count as the last of them."""

WEIGHT_BYTES: Final[dict[Weights, float]] = {"bf16": 2, "fp16": 2, "fp32": 4, "nf4": 0.5 + 1 / 64 + 1 / 4096}
"""Bytes of one weight; nf4 with its scales, which are quantised themselves."""
ADAPTER_BYTES: Final = 4 + 4 + 8 + 2
"""Of one trained parameter: itself, its gradient, Adam's two moments, its copy for the matrix product."""
LOGIT_BYTES: Final = 4 + 4 + 4
"""Of one logit: the logarithm of its probability, and two gradients on the way back, in fp32."""
PAIR_LOGIT_BYTES: Final = 5 * 4 + 1
"""The same of pairs, when the base has read them, too: the logits and their logarithms, which wait for the
way back, and the base's with a copy in between, in fp32; and what is small beside these."""
GATHERED_LAYERS: Final = 4
"""Whole layers on a device that holds a part of each: the one that computes and the next, each as it arrives
and as it is used."""
CHUNK_PLACES: Final = 512
"""Places whose logits are in memory at a time where the loss is taken at learned places alone."""
CHUNK_LOGIT_BYTES: Final = 14
DROPOUT_BYTES: Final = 1
"""Of one element that may be dropped: whether it was."""
ALLOWANCE: Final = 1.1
"""Over what is counted: buffers of the libraries, and blocks that are rounded up."""

RESERVE: Final = GIB
RESERVED_SHARE: Final = 0.05
"""What is left free of a card: the driver's own, and memory that is free in pieces too small to use."""

MOST_ROWS: Final = 512
"""More conversations in one pass gain nothing."""
SATURATED_TOKENS: Final = 1024
"""A pass over fewer tokens takes as long as one over these."""
RECOMPUTING: Final = 1.5
"""How much longer a pass takes that computes its activations twice."""


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a base model and of the adapter on it. Elements, each summed over the whole model:

    parameters: of the base. quantised: those in the linear layers that nf4 holds. largest: in one layer.
    adapter: parameters that are trained. inputs, outputs: of the layers with an adapter. middles: between
    the halves of the adapters. norms: of the layers that normalise. attention: queries, keys, values and
    results. gates: of the perceptrons' middle.
    """

    parameters: int
    quantised: int
    largest: int
    adapter: int
    layers: int
    hidden: int
    vocabulary: int
    inputs: int
    outputs: int
    middles: int
    norms: int
    attention: int
    gates: int


@dataclass(frozen=True)
class MemorySettings:
    """What of a training counts for its memory.

    packed: conversations are put one after another without padding, and logits are made at learned
    places alone. compiled: layers keep no more than they must. pairs: every row is read with either of two
    answers, and by the base as well. step_tokens: of an optimizer step, and so of a pass, at most; None: as
    many as the conversations have. shards: devices that the layers of the base are split over.
    """

    weights: Weights = "bf16"
    dropout: bool = False
    dora: bool = False
    packed: bool = False
    compiled: bool = False
    pairs: bool = False
    step_tokens: int | None = None
    shards: int = 1

    @classmethod
    def of(cls, training: Training, packed: bool = False, compiled: bool = False) -> "MemorySettings":
        lora = training.lora
        nf4 = training.quantization == "nf4"
        weights: Weights = "nf4" if nf4 else WEIGHTS[resolved_precision(training.precision)]
        pairs = training.objective == "dpo"
        dropout, dora = float(lora.dropout) > 0, lora.variant == "dora"
        return cls(weights, dropout, dora, packed, compiled, pairs, training.batch_tokens)

    @property
    def width(self) -> int:
        """Bytes of one number of the computation."""
        return 4 if self.weights == "fp32" else 2

    @property
    def sequences(self) -> int:
        """Of one row in a pass."""
        return 2 if self.pairs else 1


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the moment when the most is used."""

    weights: int
    adapter: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.logits


@dataclass(frozen=True)
class StepCut:
    """How one optimizer step is cut on one device.

    micro_batch: conversations in one pass. accumulation: passes in a step. tokens: of the longest pass.
    """

    micro_batch: int
    accumulation: int
    tokens: int
    gradient_checkpointing: bool
    estimate: MemoryEstimate


def usable(card: int) -> int:
    """Bytes of a card's memory that a training may take. card: all of its memory in bytes."""
    return max(0, int(card * (1 - RESERVED_SHARE)) - RESERVE)


def estimate(shape: ModelShape, settings: MemorySettings, tokens: int, checkpointing: bool) -> MemoryEstimate:
    """The peak of a training. tokens: of its longest pass, padding included."""
    kept = per_token(shape, settings) * tokens
    at_block = _working(shape) * tokens
    at_logits = _logits(shape, settings, tokens)
    if checkpointing:
        at_block += kept / shape.layers
        kept = settings.width * shape.hidden * shape.layers * tokens
    activations = kept if at_logits > at_block else kept + at_block
    return MemoryEstimate(
        weights=int(_weights(shape, settings)),
        adapter=ADAPTER_BYTES * shape.adapter,
        activations=int(activations * ALLOWANCE),
        logits=int(at_logits) if at_logits > at_block else 0,
    )


def per_token(shape: ModelShape, settings: MemorySettings) -> float:
    """Bytes that the forward pass keeps of one token for the way back, logits left out."""
    streams = 2 * shape.hidden * shape.layers
    width = settings.width
    if settings.compiled:
        kept = width * (shape.norms + streams + shape.attention + 3 * shape.gates)
    elif settings.weights == "fp32" or (settings.packed and not settings.dora):
        kept = 4 * shape.norms + width * (streams + shape.attention + 4 * shape.gates)
    else:  # every adapter keeps its input anew
        kept = 4 * shape.norms + width * (shape.inputs + shape.attention + 3 * shape.gates)
    dropped = (DROPOUT_BYTES + (width if settings.packed else 0)) * shape.inputs
    return kept + width * shape.middles + settings.dropout * dropped + settings.dora * 4 * shape.outputs


def longest_pass(longest: Sequence[int], rows: int, packed: bool) -> int:
    """Tokens of the longest pass over `rows` conversations. longest: their lengths, from the longest on."""
    if not packed:
        return rows * longest[0]
    return sum(longest[:rows]) + max(0, rows - len(longest)) * longest[-1]


def step_rows(training: Training, longest: Sequence[int]) -> int:
    """Conversations of an optimizer step; where it is of tokens, as many of the longest ones as make it up.
    longest: their lengths, from the longest on."""
    if rows := resolved_batch_size(training):
        return rows
    tokens, sums = training.batch_tokens or 0, [*accumulate(longest)]
    more = max(0, tokens - sums[-1])
    return min(len(longest), bisect_left(sums, tokens) + 1) + -(-more // longest[-1])


def cuts(
    shape: ModelShape, settings: MemorySettings, longest: Sequence[int], share: int
) -> Iterator[StepCut]:
    """All ways to cut the `share` conversations of a step that one device takes, the fastest first.

    Padded passes all have the same number of conversations; packed ones are filled up to their tokens, so
    there are the fewer of them, the more tokens one takes.
    """
    rows = range(1, min(share, MOST_ROWS) + 1)
    sizes = [size for size in rows if settings.packed or share % size == 0]
    ways = [_cut(shape, settings, longest, share, size, again) for size in sizes for again in (False, True)]
    cost = _cost_of_a_token if settings.packed else _cost
    yield from sorted(ways, key=lambda cut: (cost(cut), -cut.micro_batch))


def choose(
    shape: ModelShape, settings: MemorySettings, longest: Sequence[int], share: int, available: int
) -> StepCut | None:
    """The fastest cut that fits `available` bytes; None where none does."""
    return next(
        (cut for cut in cuts(shape, settings, longest, share) if cut.estimate.total <= available), None
    )


def smallest(shape: ModelShape, settings: MemorySettings, longest: Sequence[int], share: int) -> StepCut:
    """The cut that takes the least memory."""
    return min(cuts(shape, settings, longest, share), key=lambda cut: cut.estimate.total)


def _cut(
    shape: ModelShape,
    settings: MemorySettings,
    longest: Sequence[int],
    share: int,
    size: int,
    checkpointing: bool,
) -> StepCut:
    tokens = settings.sequences * longest_pass(longest, size, settings.packed)
    tokens = min(tokens, settings.step_tokens or tokens)
    peak = estimate(shape, settings, tokens, checkpointing)
    return StepCut(size, -(-share // size), tokens, checkpointing, peak)


def _cost(cut: StepCut) -> float:
    return cut.accumulation * cut.tokens * _cost_of_a_token(cut)


def _cost_of_a_token(cut: StepCut) -> float:
    again = RECOMPUTING if cut.gradient_checkpointing else 1
    return max(cut.tokens, SATURATED_TOKENS) / cut.tokens * again


def _weights(shape: ModelShape, settings: MemorySettings) -> float:
    if settings.weights != "nf4":
        return _held(shape, settings.shards) * WEIGHT_BYTES[settings.weights]
    unquantised = 2 * (shape.parameters - shape.quantised)
    return unquantised + shape.quantised * WEIGHT_BYTES["nf4"] + 2 * shape.largest


def _held(shape: ModelShape, shards: int) -> float:
    """Parameters of the base on one device: all, or a part of each layer with a few whole ones."""
    if shards == 1:
        return shape.parameters
    layer = shape.quantised / shape.layers
    return shape.parameters - shape.quantised + shape.quantised / shards + GATHERED_LAYERS * layer


def _working(shape: ModelShape) -> float:
    """Bytes of one token's gradients while one layer is on its way back."""
    return 16 * shape.hidden + 8 * shape.gates / shape.layers


def _logits(shape: ModelShape, settings: MemorySettings, tokens: int) -> float:
    if settings.packed:
        chunk = min(tokens, CHUNK_PLACES) * shape.vocabulary * CHUNK_LOGIT_BYTES
        return chunk + 6 * shape.hidden * tokens
    return tokens * shape.vocabulary * (PAIR_LOGIT_BYTES if settings.pairs else LOGIT_BYTES)

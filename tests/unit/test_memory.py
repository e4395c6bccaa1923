"""The estimate of a card's memory: against measured peaks, and what follows from it."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import GLM_9B
from lorafinetune.api.training import Lora, Training
from lorafinetune.contract.memory import (
    GIB,
    MemorySettings,
    ModelShape,
    choose,
    estimate,
    longest_pass,
    per_token,
    smallest,
    step_rows,
    usable,
)

PLAIN: Final = MemorySettings()
COMPILED: Final = MemorySettings(packed=True, compiled=True)
TOKENS: Final = Training(epochs="1", packing="tokens", batch_tokens=4096)
GRAPHED: Final = [(3648, 38.18), (8832, 67.08)]
"""Measured on an H200, in FP8 with layers launched as CUDA graphs: the longest pack, and the peak in GiB."""


@pytest.mark.parametrize(("tokens", "measured"), [(3072, 35.5), (8192, 63.0), *GRAPHED])
def test_the_estimate_is_never_below_the_measured_peak_and_little_above(tokens: int, measured: float) -> None:
    """Measured on an H100: packed rows, compiled layers, no checkpointing."""
    peak = estimate(GLM_9B, COMPILED, tokens, checkpointing=False).total / GIB
    assert measured <= peak <= 1.15 * measured


def test_the_parts_of_the_estimate_are_what_one_would_count() -> None:
    peak = estimate(GLM_9B, PLAIN, 2048, checkpointing=True)
    assert peak.weights == 2 * GLM_9B.parameters
    assert peak.adapter == 18 * 23_797_760
    assert peak.logits == 12 * 2048 * GLM_9B.vocabulary
    assert peak.total == sum([peak.weights, peak.adapter, peak.activations, peak.logits])


LESS: Final = {
    "checkpointing": (PLAIN, False, PLAIN, True),
    "a quantised base": (PLAIN, True, replace(PLAIN, weights="nf4"), True),
    "half precision": (replace(PLAIN, weights="fp32"), True, PLAIN, True),
    "no dropout": (replace(PLAIN, dropout=True), False, PLAIN, False),
    "no decomposition": (replace(PLAIN, dora=True), False, PLAIN, False),
    "logits at learned places alone": (PLAIN, True, replace(PLAIN, packed=True), True),
    "layers that are split": (PLAIN, True, replace(PLAIN, shards=2), True),
    "layers that are split once more": (replace(PLAIN, shards=2), True, replace(PLAIN, shards=8), True),
    "compiled layers": (replace(PLAIN, packed=True), False, COMPILED, False),
}


@pytest.mark.parametrize("sentence", LESS)
def test_less_memory_is_taken_by(sentence: str) -> None:
    more, more_again, less, less_again = LESS[sentence]
    assert estimate(GLM_9B, more, 2048, more_again).total > estimate(GLM_9B, less, 2048, less_again).total


LLAMA_8B: Final = ModelShape(
    parameters=8_030_261_248,
    quantised=6_979_321_856,
    largest=58_720_256,
    adapter=20_971_520,
    layers=32,
    hidden=4096,
    vocabulary=128_256,
    inputs=1_245_184,
    outputs=1_376_256,
    middles=1792,
    norms=266_240,
    attention=327_680,
    gates=458_752,
)


@pytest.mark.parametrize(
    ("rows", "tokens", "checkpointing", "measured"),
    [(1, 1024, False, 33.45), (2, 1024, True, 26.16), (1, 512, True, 17.98)],
)
def test_the_estimate_of_pairs_is_not_below_the_measured_peak_and_little_above(
    rows: int, tokens: int, checkpointing: bool, measured: float
) -> None:
    """Measured on an H100, the loss as LLaMA-Factory computes it: random weights of Llama 3.1 8B's shape."""
    settings = replace(PLAIN, pairs=True)
    peak = estimate(LLAMA_8B, settings, settings.sequences * rows * tokens, checkpointing).total / GIB
    assert measured <= peak <= 1.06 * measured


def test_a_pair_takes_more_than_two_rows() -> None:
    """Both its sequences are in one pass, and the base reads them when the model has."""
    pair = smallest(GLM_9B, replace(PLAIN, pairs=True), (1024,), 1)
    rows = smallest(GLM_9B, PLAIN, (2048,), 1)
    assert pair.tokens == rows.tokens == 2048
    assert pair.estimate.logits == 21 * 2048 * GLM_9B.vocabulary > rows.estimate.logits
    assert pair.estimate.activations == rows.estimate.activations


def test_settings_are_those_of_the_training() -> None:
    training = Training(epochs="1", precision="fp32", lora=Lora(dropout="0.1", variant="dora"))
    assert MemorySettings.of(training) == MemorySettings("fp32", dropout=True, dora=True)
    assert MemorySettings.of(Training(epochs="1", objective="dpo")) == MemorySettings("bf16", pairs=True)
    assert MemorySettings.of(Training(epochs="1", objective="pt")) == MemorySettings("bf16")
    assert MemorySettings.of(Training(epochs="1"), packed=True) == MemorySettings("bf16", packed=True)
    assert MemorySettings.of(Training(epochs="1", precision="fp8")) == MemorySettings(
        "bf16"
    )  # held twice, by a byte
    assert MemorySettings.of(Training(epochs="1", quantization="nf4")) == MemorySettings("nf4")


def test_a_base_in_4_bits_is_so_but_for_what_is_not_multiplied_with() -> None:
    """And one matrix at a time is there in 16 bits."""
    peak = estimate(GLM_9B, replace(PLAIN, weights="nf4"), 2048, checkpointing=True)
    others = GLM_9B.parameters - GLM_9B.quantised
    assert peak.weights == pytest.approx(
        GLM_9B.quantised * 4.127 / 8 + 2 * (others + GLM_9B.largest), rel=1e-4
    )


def test_a_base_that_is_split_is_so_but_for_embeddings_head_and_the_layers_that_compute() -> None:
    held = estimate(GLM_9B, replace(PLAIN, shards=4), 2048, checkpointing=True).weights
    layers, whole = GLM_9B.quantised, GLM_9B.parameters - GLM_9B.quantised
    assert held == pytest.approx(2 * (whole + layers / 4 + 4 * layers / GLM_9B.layers))


def test_padded_rows_are_as_long_as_the_longest() -> None:
    assert longest_pass((100, 60, 10), 3, packed=False) == 300


def test_packed_rows_are_as_long_as_they_are() -> None:
    assert longest_pass((100, 60, 10), 2, packed=True) == 160
    assert longest_pass((100, 60, 10), 5, packed=True) == 190


CUTS: Final = {
    "a large card computes activations once": (PLAIN, 80, (2, False)),
    "a middling card computes them twice": (PLAIN, 40, (4, True)),
    "the recipe's card takes packed rows": (COMPILED, 24, (2, True)),
    "a quantised base leaves room for more": (replace(PLAIN, weights="nf4"), 24, (2, True)),
    "a small card takes a quantised base row by row": (replace(PLAIN, weights="nf4"), 16, (1, True)),
}


@pytest.mark.parametrize("sentence", CUTS)
def test_the_fastest_cut_that_fits(sentence: str) -> None:
    settings, card, expected = CUTS[sentence]
    cut = choose(GLM_9B, settings, (2048,), 8, usable(card * GIB))
    assert cut is not None
    assert (cut.micro_batch, cut.gradient_checkpointing) == expected


def test_packed_rows_take_as_few_passes_as_fit() -> None:
    """And not more of them because the number of rows can then be divided."""
    cut = choose(GLM_9B, COMPILED, (2048,), 22, usable(80 * GIB))
    assert cut is not None
    assert (cut.tokens, cut.gradient_checkpointing) == (4 * 2048, False)


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        pytest.param((2048,), 2, id="of the longest, and all are as long"),
        pytest.param((2000, 1000), 4, id="the rest count as the last"),
        pytest.param((4096, 10), 1, id="one that makes up a step"),
        pytest.param((4000, 96, 10), 2, id="two that make it up"),
    ],
)
def test_the_rows_of_a_step_of_tokens(longest: tuple[int, ...], expected: int) -> None:
    assert step_rows(TOKENS, longest) == expected


def test_a_pass_has_no_more_tokens_than_a_step() -> None:
    settings = MemorySettings.of(TOKENS, packed=True, compiled=True)
    cut = choose(GLM_9B, settings, (2000, 1000), step_rows(TOKENS, (2000, 1000)), usable(80 * GIB))
    assert cut is not None
    assert (cut.micro_batch, cut.accumulation, cut.tokens) == (4, 1, 4096)


def test_a_card_that_is_too_small_has_no_cut() -> None:
    assert choose(GLM_9B, PLAIN, (2048,), 8, usable(16 * GIB)) is None
    assert smallest(GLM_9B, PLAIN, (2048,), 8).micro_batch == 1


def test_short_rows_fit_a_card_that_long_ones_do_not() -> None:
    assert choose(GLM_9B, PLAIN, (2048,), 8, usable(24 * GIB)) is None
    assert choose(GLM_9B, PLAIN, (512,), 8, usable(24 * GIB)) is not None


def test_a_reserve_of_every_card_is_left_free() -> None:
    assert usable(80 * GIB) == 75 * GIB
    assert usable(0) == 0


@given(
    share=st.integers(1, 64),
    longest=st.lists(st.integers(1, 4096), min_size=1, max_size=8).map(lambda n: sorted(n, reverse=True)),
    card=st.integers(1, 200),
    packed=st.booleans(),
)
def test_no_conversation_is_left_out_and_what_is_chosen_fits(
    share: int, longest: list[int], card: int, packed: bool
) -> None:
    available = usable(card * GIB)
    cut = choose(GLM_9B, MemorySettings(packed=packed), longest, share, available)
    least = smallest(GLM_9B, MemorySettings(packed=packed), longest, share)
    assert (cut is None) == (least.estimate.total > available)
    if cut:
        assert cut.estimate.total <= available
        assert cut.micro_batch * cut.accumulation >= share
        assert packed or cut.micro_batch * cut.accumulation == share


@given(tokens=st.integers(1, 100_000), checkpointing=st.booleans(), packed=st.booleans())
def test_more_tokens_never_take_less(tokens: int, checkpointing: bool, packed: bool) -> None:
    settings = MemorySettings(packed=packed)
    one, other = (estimate(GLM_9B, settings, count, checkpointing).total for count in (tokens, tokens + 64))
    assert one <= other


def test_a_token_of_a_plain_layer_keeps_what_was_counted_on_a_real_one() -> None:
    """Counted by torch's hooks on the saved tensors of a LLaMA layer under autocast."""
    inputs, attention = 3 * 256 + 256 + 2 * 256 + 768, 2 * (256 + 64)
    layer = ModelShape(0, 0, 0, 0, 1, 256, 1000, inputs, 0, 7 * 8, 2 * 256, attention, 768)
    counted, scales = 12696, 4 * (8 + 2)  # one number for each head and each normalisation
    assert per_token(layer, PLAIN) == counted - scales

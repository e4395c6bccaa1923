"""How an optimizer step is cut: the batch is kept whole, whatever the device."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import GLM_9B
from lorafinetune.contract.memory import GIB, MemorySettings, ModelShape
from lorafinetune_stages.train.fit import CPU_PACK_TOKENS, Fit, fit, smaller

SMALL = replace(
    GLM_9B,
    parameters=135_000_000,
    layers=30,
    hidden=576,
    vocabulary=49152,
    inputs=30 * 4416,
    norms=30 * 1152,
    attention=30 * 1536,
    gates=30 * 1536,
)
PADDED = MemorySettings()
COMPILED = MemorySettings(packed=True, compiled=True)
CUTOFF = (2048,)


def cut(batch_size: int, gpus: int, shape: ModelShape, settings: MemorySettings, free: int) -> Fit:
    """What is chosen, without the bytes of the estimate."""
    return replace(fit(batch_size, gpus, CUTOFF, shape, settings, free), bytes=0)


@pytest.mark.parametrize(
    ("batch_size", "gpus", "shape", "free", "expected"),
    [
        pytest.param(8, 0, SMALL, 0, Fit(2, 4, False), id="a CPU takes two conversations at a time"),
        pytest.param(3, 0, SMALL, 0, Fit(1, 3, False), id="an odd batch goes one by one"),
        pytest.param(1, 0, SMALL, 0, Fit(1, 1, False), id="a batch of one"),
        pytest.param(8, 0, GLM_9B, 0, Fit(2, 4, True), id="a large model on a CPU recomputes"),
        pytest.param(8, 1, SMALL, 80 * GIB, Fit(8, 1, False), id="a large card takes the whole batch"),
        pytest.param(8, 2, SMALL, 80 * GIB, Fit(4, 1, False), id="two cards share the batch"),
        pytest.param(8, 1, GLM_9B, 79 * GIB, Fit(2, 4, False), id="a large card keeps everything"),
        pytest.param(8, 1, GLM_9B, 24 * GIB, Fit(1, 8, True), id="a small card goes one by one"),
        pytest.param(8, 1, GLM_9B, 39 * GIB, Fit(4, 2, True), id="a middling card recomputes"),
        pytest.param(8, 1, GLM_9B, 8 * GIB, Fit(1, 8, True), id="where nothing fits, one is tried"),
    ],
)
def test_the_cut(batch_size: int, gpus: int, shape: ModelShape, free: int, expected: Fit) -> None:
    assert cut(batch_size, gpus, shape, PADDED, free) == expected


@pytest.mark.parametrize(
    ("gpus", "settings", "free", "expected"),
    [
        pytest.param(0, COMPILED, 0, Fit(8, 1, True, CPU_PACK_TOKENS), id="a CPU takes a few conversations"),
        pytest.param(1, COMPILED, 79 * GIB, Fit(8, 1, False, 4 * 2048), id="a large card keeps everything"),
        pytest.param(
            1, replace(COMPILED, compiled=False), 79 * GIB, Fit(8, 1, False, 3 * 2048), id="uncompiled, less"
        ),
        pytest.param(2, COMPILED, 79 * GIB, Fit(4, 1, False, 4 * 2048), id="two cards share the step"),
        pytest.param(1, COMPILED, 24 * GIB, Fit(8, 1, True, 3 * 2048), id="a small card recomputes"),
        pytest.param(1, COMPILED, 8 * GIB, Fit(8, 1, True, 2048), id="where nothing fits, one is tried"),
    ],
)
def test_the_cut_of_packed_conversations(
    gpus: int, settings: MemorySettings, free: int, expected: Fit
) -> None:
    assert cut(8, gpus, GLM_9B, settings, free) == expected


@pytest.mark.parametrize(
    ("gpus", "free", "expected"),
    [
        pytest.param(0, 0, Fit(1, 1, True, CPU_PACK_TOKENS), id="a CPU takes a part of a step"),
        pytest.param(1, 79 * GIB, Fit(1, 1, False, 6000), id="a large card takes all of it"),
        pytest.param(4, 79 * GIB, Fit(1, 1, False, 2048), id="four cards share it"),
        pytest.param(1, 24 * GIB, Fit(1, 1, True, 6000), id="a small card recomputes"),
    ],
)
def test_the_cut_of_a_step_of_tokens(gpus: int, free: int, expected: Fit) -> None:
    """Three rows of the longest make up 6,000 tokens; the trainer gets one pack, whatever is in it."""
    assert cut(3, gpus, GLM_9B, replace(COMPILED, step_tokens=6000), free) == expected


def test_the_estimate_goes_with_the_cut() -> None:
    chosen = fit(8, 1, CUTOFF, GLM_9B, COMPILED, 24 * GIB)
    assert 19 * GIB < chosen.bytes < 24 * GIB


@given(
    share=st.integers(1, 512),
    gpus=st.integers(0, 8),
    cutoff=st.integers(16, 2**20),
    free=st.integers(0, 200 * GIB),
)
def test_no_conversation_is_lost_or_repeated(share: int, gpus: int, cutoff: int, free: int) -> None:
    batch_size = share * max(gpus, 1)
    chosen = fit(batch_size, gpus, (cutoff,), GLM_9B, PADDED, free)
    assert chosen.micro_batch * chosen.accumulation * max(gpus, 1) == batch_size


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        pytest.param(Fit(4, 2, False), Fit(2, 4, True), id="half a micro-batch, computed twice"),
        pytest.param(Fit(3, 2, True), Fit(1, 6, True), id="an odd one, of the same batch"),
        pytest.param(Fit(1, 8, False), Fit(1, 8, True), id="one conversation, computed twice"),
        pytest.param(Fit(1, 8, True), None, id="one conversation that was"),
        pytest.param(Fit(8, 1, False, 8192), Fit(8, 1, True, 4096), id="half a pack, computed twice"),
    ],
)
def test_where_memory_does_not_do_less_is_tried(tried: Fit, expected: Fit | None) -> None:
    assert smaller(tried) == expected

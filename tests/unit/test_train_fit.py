"""How an optimizer step is cut: the batch is kept whole, whatever the device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.train.fit import Fit, Shape, fit, fit_packed

GIB = 2**30
SMALL = Shape(bytes=270_000_000, layers=30, hidden=576, intermediate=1536, vocabulary=49152)
NINE_BILLION = Shape(bytes=18 * GIB, layers=40, hidden=4096, intermediate=13696, vocabulary=151552)


@pytest.mark.parametrize(
    ("batch_size", "gpus", "shape", "free", "expected"),
    [
        pytest.param(8, 0, SMALL, 0, Fit(2, 4, False), id="a CPU takes two conversations at a time"),
        pytest.param(3, 0, SMALL, 0, Fit(1, 3, False), id="an odd batch goes one by one"),
        pytest.param(1, 0, SMALL, 0, Fit(1, 1, False), id="a batch of one"),
        pytest.param(8, 0, NINE_BILLION, 0, Fit(2, 4, True), id="a large model on a CPU recomputes"),
        pytest.param(8, 1, SMALL, 80 * GIB, Fit(8, 1, True), id="a large card takes the whole batch"),
        pytest.param(8, 2, SMALL, 80 * GIB, Fit(4, 1, True), id="two cards share the batch"),
        pytest.param(8, 1, NINE_BILLION, 24 * GIB, Fit(1, 8, True), id="a small card goes one by one"),
        pytest.param(8, 1, NINE_BILLION, 40 * GIB, Fit(2, 4, True), id="a card with room for two"),
        pytest.param(8, 1, NINE_BILLION, 8 * GIB, Fit(1, 8, True), id="where nothing fits, one is tried"),
    ],
)
def test_the_cut(batch_size: int, gpus: int, shape: Shape, free: int, expected: Fit) -> None:
    assert fit(batch_size, gpus, 2048, shape, free) == expected


@pytest.mark.parametrize(
    ("gpus", "cutoff", "compiled", "free", "expected"),
    [
        pytest.param(0, 2048, False, 0, Fit(8, 1, True, 1024), id="a CPU takes a few conversations"),
        pytest.param(1, 2048, True, 79 * GIB, Fit(8, 1, False, 9831), id="a large card keeps everything"),
        pytest.param(1, 2048, False, 79 * GIB, Fit(8, 1, False, 4915), id="uncompiled, half as much"),
        pytest.param(1, 8192, False, 79 * GIB, Fit(8, 1, True, 61944), id="a long one is recomputed"),
        pytest.param(2, 2048, True, 79 * GIB, Fit(4, 1, False, 9831), id="two cards share the step"),
        pytest.param(1, 2048, True, 24 * GIB, Fit(8, 1, True, 2831), id="a small card recomputes"),
        pytest.param(1, 2048, True, 8 * GIB, Fit(8, 1, True, 2048), id="where nothing fits, one is tried"),
    ],
)
def test_the_cut_of_packed_conversations(
    gpus: int, cutoff: int, compiled: bool, free: int, expected: Fit
) -> None:
    assert fit_packed(8, gpus, cutoff, NINE_BILLION, free, compiled) == expected


@given(
    share=st.integers(1, 512),
    gpus=st.integers(0, 8),
    cutoff=st.integers(16, 2**20),
    free=st.integers(0, 200 * GIB),
)
def test_no_conversation_is_lost_or_repeated(share: int, gpus: int, cutoff: int, free: int) -> None:
    batch_size = share * max(gpus, 1)
    cut = fit(batch_size, gpus, cutoff, NINE_BILLION, free)
    assert cut.micro_batch * cut.accumulation * max(gpus, 1) == batch_size

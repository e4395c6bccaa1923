"""How an optimizer step is cut: the batch is kept whole, whatever the device."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.train.fit import Fit, Shape, fit
from lorafinetune_stages.train.levers import PLAIN, Levers

GIB = 2**30
SMALL = Shape(bytes=270_000_000, layers=30, hidden=576, intermediate=1536, vocabulary=49152)
NINE_BILLION = Shape(bytes=18 * GIB, layers=40, hidden=4096, intermediate=13696, vocabulary=151552)


FAST = Levers(packing=True, learned_loss=True, direct_lora=True, compiled=True)
LENGTHS = [200] * 1000 + [2048] * 4
"""Most conversations are short; padded to the longest, they all cost what that one does."""


@pytest.mark.parametrize(
    ("batch_size", "gpus", "shape", "free", "levers", "expected"),
    [
        pytest.param(8, 0, SMALL, 0, FAST, Fit(2, 4, False), id="a CPU takes two conversations at a time"),
        pytest.param(3, 0, SMALL, 0, FAST, Fit(1, 3, False), id="an odd batch goes one by one"),
        pytest.param(1, 0, SMALL, 0, FAST, Fit(1, 1, False), id="a batch of one"),
        pytest.param(8, 0, NINE_BILLION, 0, FAST, Fit(2, 4, True), id="a large model on a CPU recomputes"),
        pytest.param(8, 1, SMALL, 80 * GIB, FAST, Fit(8, 1, False), id="a large card takes the whole batch"),
        pytest.param(8, 2, SMALL, 80 * GIB, FAST, Fit(4, 1, False), id="two cards share the batch"),
        pytest.param(8, 1, NINE_BILLION, 80 * GIB, FAST, Fit(8, 1, False), id="packed: by the longest eight"),
        pytest.param(
            8, 1, NINE_BILLION, 80 * GIB, PLAIN, Fit(1, 8, False), id="padded: every row is longest"
        ),
        pytest.param(8, 1, NINE_BILLION, 24 * GIB, FAST, Fit(8, 1, True), id="a small card recomputes"),
        pytest.param(
            8, 1, NINE_BILLION, 8 * GIB, PLAIN, Fit(1, 8, True), id="where nothing fits, one is tried"
        ),
    ],
)
def test_the_cut(batch_size: int, gpus: int, shape: Shape, free: int, levers: Levers, expected: Fit) -> None:
    cut = fit(batch_size, gpus, LENGTHS, shape, free, levers)
    assert replace(cut, pass_tokens=None) == expected
    assert (cut.pass_tokens is not None) == (levers.packing and gpus > 0)


def test_a_pass_of_packed_conversations_takes_what_memory_allows() -> None:
    passes = [fit(8, 1, LENGTHS, NINE_BILLION, gib * GIB, FAST).pass_tokens or 0 for gib in (8, 40, 80)]
    assert passes[0] == max(LENGTHS)
    assert 2048 <= passes[1] < 4096
    assert 8192 < passes[2] < 16384


@given(
    share=st.integers(1, 512),
    gpus=st.integers(0, 8),
    longest=st.integers(16, 2**20),
    free=st.integers(0, 200 * GIB),
    levers=st.sampled_from([FAST, PLAIN]),
)
def test_no_conversation_is_lost_or_repeated(
    share: int, gpus: int, longest: int, free: int, levers: Levers
) -> None:
    batch_size = share * max(gpus, 1)
    cut = fit(batch_size, gpus, [longest], NINE_BILLION, free, levers)
    assert cut.micro_batch * cut.accumulation * max(gpus, 1) == batch_size

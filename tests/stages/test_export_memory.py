"""The comparison of tests/bench/export, with a model of half a gigabyte whose tensors are large."""

from pathlib import Path

import pytest

from bench.export.measure import OURS, PEER, Task, peak_bytes, perform
from bench.export.model import Shape, fill_store
from stages.test_export import assert_equal, load

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

SHAPE = Shape(layers=1, hidden=512, intermediate=1024, vocabulary=2**18, heads=8)
MEGABYTE = 10**6
NEARLY = 0.9
"""The process may have some memory to spare from what it did before."""


def forget_peak() -> int:
    """Forgets the largest size of this process; gives its size now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def test_a_merge_needs_little_memory_whatever_the_size_of_the_model_and_its_tensors(tmp_path: Path) -> None:
    import llamafactory.train.tuner  # noqa: F401  # its size is nobody's merge

    import lorafinetune_stages.export.streamed_merge  # noqa: F401

    arguments = fill_store(tmp_path / "store", SHAPE)
    costs = {}
    for what in (OURS, PEER):
        before = forget_peak()
        perform(Task(what, arguments, tmp_path / "store", tmp_path / what))
        costs[what] = peak_bytes() - before
    (ours,) = (tmp_path / "store" / "exports").iterdir()
    assert_equal(load(ours), load(tmp_path / PEER / "merged"))
    assert costs[OURS] < 120 * MEGABYTE
    assert arguments.model.bytes > 500 * MEGABYTE
    assert costs[PEER] > NEARLY * arguments.model.bytes

"""Results in memory that two processes share: what is taken is what was put, wherever it lies."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lorafinetune_stages.prepare.shared_memory import ALIGNED_BYTES, ROOM_BYTES, SharedBuffer

BUFFER = SharedBuffer()
ANY_ARRAY = arrays.arrays(st.sampled_from(["i1", "i4", "i8", "?"]), st.integers(0, 300))


@given(st.lists(ANY_ARRAY), st.text())
def test_what_is_taken_is_what_was_put(parts: list[np.ndarray], text: str) -> None:
    found, told = BUFFER.take(BUFFER.put((parts, text)))
    assert told == text
    assert [part.dtype for part in found] == [part.dtype for part in parts]
    assert all(map(np.array_equal, found, parts))


@pytest.mark.parametrize(
    ("size", "is_there"),
    [
        pytest.param(1, True, id="a byte"),
        pytest.param(ROOM_BYTES, True, id="just what has room"),
        pytest.param(ROOM_BYTES + 1, False, id="more than has room"),
    ],
)
def test_an_array_lies_there_if_it_has_room(size: int, is_there: bool) -> None:
    buffer = SharedBuffer()
    data, sizes = buffer.put(np.ones(size, np.int8))
    assert (len(data) < size or size == 1, list(sizes)) == (is_there, [size] * is_there)
    taken = buffer.take((data, sizes))
    assert taken.all()
    if is_there:
        buffer.put(np.zeros(size, np.int8))
    assert taken.any() is np.bool_(not is_there)


def test_a_table_is_not_copied_and_lies_as_arrow_wants_it() -> None:
    table = pa.RecordBatch.from_pydict({"a": pa.array([1, 2, 3], pa.int8()), "b": [[1], [2, 3], []]})
    found = BUFFER.take(BUFFER.put(table))
    assert found.equals(table)
    buffers = [buffer for column in found.columns for buffer in column.buffers() if buffer]
    assert len(buffers) == 3
    assert all(buffer.address % ALIGNED_BYTES == 0 for buffer in buffers)

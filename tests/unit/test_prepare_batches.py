"""Rows that are encoded together."""

from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune_stages.prepare import batches as module
from lorafinetune_stages.prepare.batches import batches
from lorafinetune_stages.prepare.rowfile import RowFile


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 100)


@pytest.mark.parametrize(
    ("sizes", "lasts", "expected"),
    [
        pytest.param([], {}, [], id="no rows"),
        pytest.param([1] * 9, {}, [[0, 1, 2, 3], [4, 5, 6, 7], [8]], id="at most so many rows"),
        pytest.param(
            [60, 60, 60], {}, [[0, 1], [2]], id="the row that reaches so many characters is the last"
        ),
        pytest.param([500, 1], {}, [[0], [1]], id="a row of more is alone"),
        pytest.param([1] * 6, {2, 5}, [[0, 1, 2], [3, 4, 5]], id="half full, it ends with its block"),
        pytest.param([1] * 5, {0}, [[0, 1, 2, 3], [4]], id="less than half full, it goes on into the next"),
        pytest.param([50, 1, 1], {0}, [[0], [1, 2]], id="half full by characters, too"),
    ],
)
def test_rows_are_parted(sizes: Sequence[int], lasts: Container[int], expected: list[list[int]]) -> None:
    assert [[*batch] for batch in batches(range(len(sizes)), sizes, lasts)] == expected


@given(st.lists(st.integers(0, 120), max_size=40), st.sets(st.integers(0, 40)), st.randoms())
def test_every_row_is_in_one_batch_and_in_its_order(
    sizes: list[int], lasts: set[int], random: object
) -> None:
    rows = list(range(len(sizes)))
    random.shuffle(rows)  # type: ignore[attr-defined]  # hypothesis' Random
    found = list(batches(rows, sizes, lasts))
    assert [row for batch in found for row in batch] == rows
    assert all(0 < len(batch) <= 4 for batch in found)


def test_a_block_is_read_once_for_batches_that_end_with_it(tmp_path: Path) -> None:
    loaded: list[int] = []

    def load(block: int) -> list[list[str]]:
        loaded.append(block)
        return [[f"row {block}.{row}"] for row in range(3)]

    with (tmp_path / "rows").open("w+b", buffering=0) as file:
        kept = RowFile(file)
        for block in range(5):
            kept.extend(3, 2**20, partial(load, block))
        parts = list(batches(range(15), [1] * 15, kept.lasts()))
        read = [row for batch in parts for row in kept.read(batch)]
    assert len(read) == 15
    assert loaded == [0, 1, 2, 3, 4]

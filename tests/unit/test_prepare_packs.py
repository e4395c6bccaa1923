"""Counting packs by the rows that were saved."""

import re
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, load_from_disk

from lorafinetune_stages.prepare.output import ONLY_SHARD
from lorafinetune_stages.prepare.packs import batch_lengths, count_packs, lengths
from lorafinetune_stages.store import ignore_progress
from lorafinetune_stages.train.token_steps import TokenSteps

SIZES = [1 + size % 200 for size in range(20_000)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows as they are saved, in 20 batches of 800 KB."""
    made = tmp_path_factory.mktemp("packs") / "rows"
    tokens = pa.array(np.zeros(sum(SIZES), np.int32))
    column = pa.ListArray.from_arrays([0, *accumulate(SIZES)], tokens)
    Dataset(pa.table({"input_ids": column, "labels": column})).save_to_disk(made)
    return made


@pytest.mark.parametrize("size", [200, 4096])
def test_the_training_fills_as_many_packs(directory: Path, size: int) -> None:
    steps = TokenSteps.of(load_from_disk(str(directory)), size, seed=1)
    assert count_packs(directory / ONLY_SHARD, size, 1, ignore_progress) == len(steps)


def test_lengths_are_those_of_all_rows_in_their_order(directory: Path) -> None:
    assert lengths(directory / ONLY_SHARD).tolist() == SIZES


def test_of_the_file_no_more_is_in_memory_than_was_looked_at_for_one_batch(directory: Path) -> None:
    path = directory / ONLY_SHARD
    held = [resident(path) for _ in batch_lengths(path)]
    assert len(held) == 20
    assert 0 < max(held) <= path.stat().st_size / 20
    assert resident(path) == 0


def resident(path: Path) -> int:
    """Bytes of a mapped file that count as memory of this process."""
    mapped = re.findall(
        rf"{re.escape(str(path))}\n(?:.+\n)*?Rss: +(\d+) kB", Path("/proc/self/smaps").read_text()
    )
    return sum(map(int, mapped)) * 1024

"""How many packs the training will fill with the prepared rows.

Importing this module imports pyarrow, which other trainings need not.
"""

from collections.abc import Iterator
from mmap import ACCESS_READ, MADV_DONTNEED, mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lorafinetune_stages.fixed_packs import Numbers, fill
from lorafinetune_stages.store import Advance


def count_packs(path: Path, tokens: int, seed: int, advance: Advance) -> int:
    """path: of the rows, as they were saved. tokens: of a pack, at most. advance: gets the rows that have
    a pack."""
    return len(fill(lengths(path), tokens, seed, advance))


def lengths(path: Path) -> Numbers:
    """Of all rows in tokens."""
    return np.concatenate([*batch_lengths(path)]).astype(np.int64)


def batch_lengths(path: Path) -> Iterator[Numbers]:
    """Of the rows of each batch, by their ends alone: no token is read.

    Pages of a mapped file that were looked at, and those around them, count as memory of the process until
    they are let go of: with a gigabyte of rows they were 320 MB.
    """
    with path.open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
    for batch in pa.ipc.open_stream(pa.py_buffer(mapped)):
        yield pc.list_value_length(batch["input_ids"]).to_numpy()
        mapped.madvise(MADV_DONTNEED)

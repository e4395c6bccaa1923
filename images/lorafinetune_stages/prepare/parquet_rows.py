"""Rows out of Parquet, a few at a time: what a file claims about itself is not believed.

Importing this module imports pyarrow, which other formats need not.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.findings import Kind, Place, Row, RowError, printable_start
from lorafinetune_stages.prepare.json_window import MAX_ROW_BYTES
from lorafinetune_stages.prepare.tables import TableColumns, check_header
from lorafinetune_stages.store import Advance

BATCH_ROWS: Final = 64
MAX_UNPACKED: Final = 2**28
"""A batch that could become more bytes of Python objects than these becomes them row by row."""
MAX_FOOTER_BYTES: Final = 2**24
ROWS_PER_BYTE: Final = 8
"""More rows than these in a byte hold nothing to learn from, but could keep us busy for days."""
BROKEN: Final = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)
"""What pyarrow raises for a file that is not what it should be."""


def parquet_rows(path: Path, name: str, advance: Advance, columns: TableColumns) -> Iterator[Row]:
    """Every row with its index. Columns that no format knows are named, but not read.

    Raises StageError(DatasetInvalid).
    """
    try:
        file = _opened(path, name, columns)
        rest = dict.fromkeys(file.schema_arrow.names)
    except BROKEN as problem:
        raise _broken(Place(name, None), problem) from problem
    read = [column for column in rest if column in columns.known] or list(rest)
    size, total, index = path.stat().st_size, max(1, file.metadata.num_rows), 0
    advance(0 if file.metadata.num_rows else size)
    for batch in _batches(file, read, name):
        for row in _unpacked(batch):
            place = Place(name, None, index)
            index += 1
            yield (place, row) if isinstance(row, RowError) else columns.unpacked(place, rest | row)
        advance(size * index // total - size * (index - batch.num_rows) // total)


def _opened(path: Path, name: str, columns: TableColumns) -> pq.ParquetFile:
    limits = {
        "thrift_string_size_limit": MAX_FOOTER_BYTES,
        "thrift_container_size_limit": MAX_FOOTER_BYTES,
    }
    plain = pq.ParquetFile(path, **limits)
    check_header(Place(name, None), plain.schema_arrow.names)
    rows, size = plain.metadata.num_rows, path.stat().st_size
    if rows > ROWS_PER_BYTE * size:
        raise ValueError(f"claims to hold {rows} rows in {size} bytes")
    texts = [field.name for field in plain.schema_arrow if pa.types.is_string(field.type)]
    return pq.ParquetFile(
        path,
        metadata=plain.metadata,
        read_dictionary=texts,  # a text that repeats is held once
        pre_buffer=False,
        buffer_size=2**20,
        page_checksum_verification=True,
        **limits,
    )


def _batches(file: pq.ParquetFile, read: list[str], name: str) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(BATCH_ROWS, columns=read, use_threads=False)
    index = 0
    while True:
        try:
            batch = next(batches, None)
        except BROKEN as problem:
            raise _broken(Place(name, None, index), problem) from problem
        if batch is None:
            return
        index += batch.num_rows
        yield batch


def _unpacked(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | RowError]:
    if batch.nbytes <= min(MAX_ROW_BYTES, MAX_UNPACKED // max(1, batch.num_rows)):
        rows: list[dict[str, Any]] = []
        with contextlib.suppress(*BROKEN):  # one row spoils the batch: which one is found below
            rows = batch.to_pylist()
        if rows:
            yield from rows
            return
    for index in range(batch.num_rows):
        yield _one(batch.slice(index, 1))


def _one(row: pa.RecordBatch) -> dict[str, Any] | RowError:
    value: dict[str, Any] = {}
    size = 0
    for column, cell in zip(row.schema.names, row.columns, strict=True):
        try:
            size += _bytes(cell)
            if size > MAX_ROW_BYTES:
                return RowError(
                    Kind.TOO_LARGE, printable_start(column), f"the row has more than {MAX_ROW_BYTES} bytes"
                )
            value[column] = cell[0].as_py()
        except UnicodeDecodeError:
            return RowError(Kind.INVALID_UTF8, printable_start(column), "not valid UTF-8")
        except BROKEN as problem:
            return RowError(Kind.WRONG_TYPE, printable_start(column), f"can't be read: {_why(problem)}")
    return value


def _bytes(cell: pa.Array) -> int:
    """Of an array of one value; a text is not copied to learn that it is too large."""
    if not isinstance(cell, pa.DictionaryArray):
        return int(cell.nbytes)
    text = cell[0].value.as_buffer() if cell[0].is_valid else None
    return text.size if text else 0


def _broken(place: Place, problem: Exception) -> StageError:
    return StageError(
        Reason.DATASET_INVALID,
        f"{place}: broken Parquet: {_why(problem)}",
        "Write the file anew, with pyarrow for instance: what is broken in Parquet can't be left out.",
    )


def _why(problem: Exception) -> str:
    """What pyarrow says, without what a terminal would obey."""
    what = " ".join(str(problem).split())[:200]
    return what if what.isprintable() else ascii(what)

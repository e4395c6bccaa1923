"""Rows out of JSON, JSON Lines, CSV and Parquet, each with its place, in bounded memory.

A broken line spoils one row. A fault in a list spoils all that follows, so it ends the reading.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.csv_rows import csv_rows
from lorafinetune_stages.prepare.findings import Place, Row
from lorafinetune_stages.prepare.fingerprints import Marks
from lorafinetune_stages.prepare.json_decoder import Decoder
from lorafinetune_stages.prepare.json_window import JsonWindow
from lorafinetune_stages.prepare.lines import Lines, Stretch, line_blocks, parsed_rows
from lorafinetune_stages.prepare.rowfile import Load
from lorafinetune_stages.prepare.tables import TableColumns
from lorafinetune_stages.prepare.workers import in_order
from lorafinetune_stages.store import Advance

if TYPE_CHECKING:
    from lorafinetune_stages.prepare.fast_path import FastPath

BOM: Final = b"\xef\xbb\xbf"
PARQUET: Final = b"PAR1"
CSV_SUFFIX: Final = ".csv"
FEW_STRETCHES: Final = 4
"""Read in the time in which this process is copied."""
FOREIGN: Final = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"BZh": "a bzip2 archive",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy file",
    b"%PDF": "a PDF",
    b"version https://git-lfs": "a pointer of Git LFS, without the file itself",
}
CHUNK_BYTES: Final = 2**20


class GoodRows(NamedTuple):
    """Good rows that need not be looked at one by one. load: reads them again."""

    stretch: Stretch
    marks: Marks
    load: Load


def read_rows(path: Path, name: str, advance: Advance, columns: TableColumns) -> Iterator[Row]:
    """Every row of a file. name: the file's name in messages. columns: what is read of a table.

    The content says what a file is; only CSV is known by its name. Raises StageError(DatasetInvalid).
    """
    rows = read_quickly(path, name, advance, columns, None)
    return (row for row in rows if not isinstance(row, GoodRows))


def read_quickly(
    path: Path, name: str, advance: Advance, columns: TableColumns, fast_path: "FastPath | None"
) -> Iterator[Row | GoodRows]:
    """As above, with good rows that are taken on the way."""
    with path.open("rb") as file:
        head = file.read(CHUNK_BYTES)
        if head.startswith(PARQUET):
            from lorafinetune_stages.prepare.parquet_rows import parquet_rows  # imports pyarrow

            yield from parquet_rows(path, name, advance, columns)
            return
        start = len(BOM) if head.startswith(BOM) else 0
        first = _first_character(head, start, name)
        file.seek(start)
        advance(start)
        if first and first not in b"[{":
            yield from csv_rows(file, name, start, advance, columns)
        elif first == b"[":
            yield from _list_rows(file, name, start, advance)
        else:
            yield from _line_rows(file, name, start, advance, fast_path)


def _first_character(head: bytes, start: int, name: str) -> bytes:
    """The first byte that is no white space. Raises StageError for a kind of file that is not read."""
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise _unreadable(name, f"is {what}")
    text = head[start:].lstrip()
    if text and text[:1] not in b"[{" and not name.lower().endswith(CSV_SUFFIX):
        raise _unreadable(name, f"begins with {text[:12].decode('latin-1')!a}")
    return text[:1]


def _unreadable(name: str, what: str) -> StageError:
    return StageError(
        Reason.DATASET_INVALID,
        f"{Place(name, 1)}: the file {what}; a dataset is a JSON list of rows, JSON Lines, CSV or Parquet",
        "Convert the file to one of these, in UTF-8. The name of a CSV file ends in .csv.",
    )


def _list_rows(file: BinaryIO, name: str, start: int, advance: Advance) -> Iterator[Row]:
    window = JsonWindow(file, name, start, advance)
    window.take("[")
    if window.peek() != "]":
        for index in _indexes():
            window.skip_space()
            line = window.line
            yield Place(name, line, index), window.value(index)
            if window.take(",]") == "]":
                break
    else:
        window.take("]")
    window.expect_end()


def _indexes() -> Iterator[int]:
    index = 0
    while True:
        yield index
        index += 1


def _line_rows(
    file: BinaryIO, name: str, start: int, advance: Advance, fast_path: "FastPath | None"
) -> Iterator[Row | GoodRows]:
    decoder = Decoder()
    if fast_path is None:
        whole = Stretch(1, start, os.fstat(file.fileno()).st_size - start)
        for block in line_blocks(file, whole, advance):
            yield from parsed_rows(block, name, decoder)
        return
    for size, parts in in_order(fast_path.take, fast_path.stretches(file, start), FEW_STRETCHES):
        for part in parts:
            if isinstance(part, Lines):
                yield from parsed_rows(part, name, decoder)
            else:
                yield GoodRows(*part, partial(fast_path.load, part[0]))
        advance(size)

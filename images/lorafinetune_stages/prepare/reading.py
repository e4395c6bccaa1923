"""Rows out of JSON, JSON Lines, CSV and Parquet, each with its place, in bounded memory.

A broken line spoils one row; what is broken in a list spoils all that follows, so it ends the reading.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.csv_rows import csv_rows
from lorafinetune_stages.prepare.decoding import Decoder
from lorafinetune_stages.prepare.findings import Kind, Place, Row, RowError
from lorafinetune_stages.prepare.tables import TableColumns
from lorafinetune_stages.prepare.window import MAX_ROW_BYTES, Window
from lorafinetune_stages.store import Advance

BOM: Final = b"\xef\xbb\xbf"
PARQUET: Final = b"PAR1"
CSV_SUFFIX: Final = ".csv"
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
SPACE: Final = b" \t\r\n"


def read_rows(path: Path, name: str, advance: Advance, columns: TableColumns) -> Iterator[Row]:
    """Every row of a file. name: the file's name in messages. columns: what is read of a table.

    The content says what a file is; only CSV is known by its name. Raises StageError(DatasetInvalid).
    """
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
        else:
            yield from (_list_rows if first == b"[" else _line_rows)(file, name, start, advance)


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
    window = Window(file, name, start, advance)
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


def _line_rows(file: BinaryIO, name: str, start: int, advance: Advance) -> Iterator[Row]:
    decoder = Decoder()
    for number, offset, line in _lines(file, start):
        advance(len(line))
        place = Place(name, number)
        if len(line) > MAX_ROW_BYTES:
            yield place, RowError(Kind.TOO_LARGE, "", f"the row has more than {MAX_ROW_BYTES} bytes")
        elif line.strip():
            yield _parse_line(decoder, place, offset, line)


def _lines(file: BinaryIO, offset: int) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of every line; of a line over the limit, the first part alone."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        yield number, offset, line
        offset += len(line)
        while not line.endswith(b"\n") and (line := file.readline(CHUNK_BYTES)):
            offset += len(line)


def _parse_line(decoder: Decoder, place: Place, offset: int, line: bytes) -> Row:
    try:
        return place, decoder.decode(line.rstrip(SPACE).decode())
    except UnicodeDecodeError as problem:
        at = Place(place.file, place.line, None, problem.start + 1, offset + problem.start)
        return at, RowError(Kind.INVALID_UTF8, "", "not valid UTF-8")
    except json.JSONDecodeError as problem:
        byte = offset + len(problem.doc[: problem.pos].encode())
        at = Place(place.file, place.line, None, problem.pos + 1, byte)
        return at, RowError(Kind.BROKEN_JSON, "", _why_broken(problem))
    except RecursionError:
        return place, RowError(Kind.NESTED_TOO_DEEP, "", "the row is nested too deep")
    except ValueError:
        return place, RowError(Kind.BROKEN_JSON, "", "a number has more digits than can be read")


def _why_broken(problem: json.JSONDecodeError) -> str:
    ends = problem.pos >= len(problem.doc) or problem.msg.startswith("Unterminated")
    return f"broken JSON: {problem.msg}" + (", and the line ends inside of the row" if ends else "")

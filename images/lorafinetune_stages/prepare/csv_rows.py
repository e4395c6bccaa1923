"""Rows out of CSV as spreadsheets write it: commas, quotes that are doubled, names in the first line.

A broken record may have swallowed those after it, so it ends the reading.
"""

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.findings import Kind, Place, Row, RowError, printable_start
from lorafinetune_stages.prepare.json_window import MAX_ROW_BYTES
from lorafinetune_stages.prepare.tables import TableColumns, check_header
from lorafinetune_stages.store import Advance

ESCAPED: Final = "\udc80", "\udcff"
"""Bytes that are no UTF-8 are between these after decoding."""
SEPARATORS: Final = re.compile(r"[;\t|]")
"""What other programs write for a comma."""


def csv_rows(file: BinaryIO, name: str, start: int, advance: Advance, columns: TableColumns) -> Iterator[Row]:
    """Every record after the first, with the line in which it begins. start: where `file` stands.

    Raises StageError(DatasetInvalid).
    """
    csv.field_size_limit(MAX_ROW_BYTES)  # the module's own is 128 KiB
    file.seek(start)
    records = _records(_Lines(file, name, advance), name)
    place, header = next(records, (Place(name, 1), []))
    _check_names(place, header, columns)
    for place, cells in records:
        yield _row(place, header, cells, columns)


class _Lines:
    """The lines of the file as texts; remembers how long the record is that they are part of."""

    def __init__(self, file: BinaryIO, name: str, advance: Advance) -> None:
        self._file = file
        self._name = name
        self._advance = advance
        self._number = 0
        self.record_bytes = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW_BYTES + 1):
            self._number += 1
            self._advance(len(line))
            self.record_bytes += len(line)
            if self.record_bytes > MAX_ROW_BYTES:
                what = f"the row, up to here, has more than {MAX_ROW_BYTES} bytes: is a quote not closed?"
                raise _broken(Place(self._name, self._number), what)
            yield line.decode(errors="surrogateescape")


def _records(lines: _Lines, name: str) -> Iterator[tuple[Place, list[str]]]:
    reader = csv.reader(lines, strict=True)
    while True:
        place = Place(name, reader.line_num + 1)
        lines.record_bytes = 0
        try:
            cells = next(reader, None)
        except csv.Error as problem:
            what, _, _ = str(problem).partition(" - ")  # what follows is for programmers
            raise _broken(place, f"broken CSV: {what}") from problem
        if cells is None:
            return
        if cells:
            yield place, cells


def _row(place: Place, header: list[str], cells: list[str], columns: TableColumns) -> Row:
    if len(cells) != len(header):
        what = f"the row has {len(cells)} cells, and the first line names {len(header)}"
        return place, RowError(Kind.WRONG_CELLS, "", what)
    for column, cell in zip(header, cells, strict=True):
        if not _is_utf8(cell):
            return place, RowError(Kind.INVALID_UTF8, printable_start(column), "not valid UTF-8")
    return columns.unpacked(place, dict(zip(header, cells, strict=True)))


def _check_names(place: Place, header: list[str], columns: TableColumns) -> None:
    if not all(map(_is_utf8, header)):
        raise _broken(place, "the names of the columns are not valid UTF-8")
    check_header(place, header)
    if len(header) == 1 and header[0] not in columns.known and (found := SEPARATORS.search(header[0])):
        raise StageError(
            Reason.DATASET_INVALID,
            f"{place}: the names of the columns are separated by {found.group()!r}, not by commas",
            "Write the file anew, with commas between its cells.",
        )


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any(ESCAPED[0] <= character <= ESCAPED[1] for character in text)


def _broken(place: Place, what: str) -> StageError:
    hint = "Mend the file at this place: what follows in it can't be read."
    return StageError(Reason.DATASET_INVALID, f"{place}: {what}", hint)

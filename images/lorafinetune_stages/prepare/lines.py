"""Rows out of JSON Lines: one a line, and a broken line spoils one row."""

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import BinaryIO, Final, NamedTuple

from lorafinetune_stages.prepare.findings import Kind, Place, Row, RowError
from lorafinetune_stages.prepare.json_decoder import Decoder, what_is_wrong
from lorafinetune_stages.prepare.json_window import MAX_ROW_BYTES
from lorafinetune_stages.store import Advance

BLOCK_BYTES: Final = 2**16
SPACE: Final = b" \t\r\n"
OPENED: Final = ("{", "[", "[{")
"""All of the first line, where a row is written over several."""


class Stretch(NamedTuple):
    """Whole lines of a file. number: of the first one. offset: its first byte. size: in bytes."""

    number: int
    offset: int
    size: int


class Lines(NamedTuple):
    """Lines that follow each other, with their ends. number: of the first one. offset: its first byte."""

    number: int
    offset: int
    lines: Sequence[bytes]

    def one_by_one(self) -> Iterator["Lines"]:
        offset = self.offset
        for number, line in enumerate(self.lines, self.number):
            yield Lines(number, offset, [line])
            offset += len(line)


def line_blocks(file: BinaryIO, stretch: Stretch, advance: Advance) -> Iterator[Lines]:
    """All lines of a stretch; of a line over the limit, the first part alone."""
    number, offset = stretch.number, stretch.offset
    end = offset + stretch.size
    file.seek(offset)
    while offset < end:
        data = file.read(min(BLOCK_BYTES, end - offset))
        if not data.endswith(b"\n"):
            data += file.readline(MAX_ROW_BYTES + 1)
        lines = lines_of(data)
        yield Lines(number, offset, lines)
        number += len(lines)
        size = len(data) + (0 if data.endswith(b"\n") else skip_line(file))
        offset += size
        advance(size)


def lines_of(data: bytes) -> list[bytes]:
    """With their ends: so it is several times as fast as `split`."""
    return BytesIO(data).readlines()


def skip_line(file: BinaryIO) -> int:
    """The number of bytes up to the end of the line."""
    size = 0
    while part := file.readline(BLOCK_BYTES):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def parsed_rows(block: Lines, name: str, decoder: Decoder) -> Iterator[Row]:
    """The rows of a block, each with its place. name: the file's, in messages."""
    for number, offset, (line,) in block.one_by_one():
        place = Place(name, number)
        if len(line) > MAX_ROW_BYTES:
            yield place, RowError(Kind.TOO_LARGE, "", f"the row has more than {MAX_ROW_BYTES} bytes")
        elif line.strip():
            yield _parse_line(decoder, place, offset, line)


def _parse_line(decoder: Decoder, place: Place, offset: int, line: bytes) -> Row:
    try:
        return place, decoder.decode(line.rstrip(SPACE).decode())
    except UnicodeDecodeError as problem:
        before = problem.object[: problem.start].decode()
        at = Place(place.file, place.line, None, len(before) + 1, offset + problem.start)
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
    line = problem.doc
    rest = line[problem.pos :].strip()
    if line.startswith("\ufeff"):
        return "broken JSON: a byte order mark before the row"
    if problem.msg == "Extra data" and rest[:1] == ",":
        return "broken JSON: a comma after the row"
    if problem.msg == "Extra data" and rest[:1] == "{":
        return "broken JSON: another row in the same line"
    if line.strip() in OPENED:
        return f"broken JSON: {line.strip()} alone in a line; each row must be one line, or the file one list"
    where = ", and the line ends inside of the row" if _ends_inside(problem) else ""
    return f"broken JSON: {what_is_wrong(problem)}{where}"


def _ends_inside(problem: json.JSONDecodeError) -> bool:
    return problem.pos >= len(problem.doc) or problem.msg.startswith("Unterminated")

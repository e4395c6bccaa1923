"""Broken datasets that would fill a machine's memory, or its time, if they were believed."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from faults.data.making import ALPACA, AUTO, Case, bad, lines, of_file, one

ROW = lines(ALPACA)
MIB = 2**20
LARGE = 200
"""MiB of one row."""
TOO_LARGE = "the row has more than 16777216 bytes"
OPEN_QUOTE = r"the row, up to here, has more than 16777216 bytes: is a quote not closed\?"


def written(start: bytes, piece: bytes, end: bytes, size: int = LARGE) -> Callable[[Path], None]:
    """A file of a start, `size` MiB of a repeated piece, and an end."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            for _ in range(size):
                file.write(piece * (MIB // len(piece)))
            file.write(end)

    return write


def parquet_cell(path: Path) -> None:
    columns = {"instruction": ["q", "q"], "output": ["a", "x" * (64 * MIB)]}
    pq.write_table(pa.table(columns), path, compression="zstd")


def parquet_dictionary(path: Path) -> None:
    """One long text that all rows refer to."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 9), pa.array(["x" * (15 * MIB)]))
    answers = pa.array(["a"] * 8 + [""])
    pq.write_table(pa.table({"instruction": texts, "output": answers}), path, compression="zstd")


def many_objects(path: Path) -> None:
    path.write_bytes(ROW + b'{"instruction": "q", "output": [' + b"{}," * (2 * MIB) + b"{}]}\n")


HEAVY_CASES = {
    "a line of 200 MB": Case(
        written(ROW + b'{"output": "', b"x", b'"}\n' + ROW),
        bad(1, 3, "too large", r"rows\.jsonl:2", TOO_LARGE),
    ),
    "a row of 200 MB in a list": Case(
        written(b'[{"output": "', b"x", b'"}]'),
        of_file(rf"rows\.json\[0\] \(line 1\): {TOO_LARGE}"),
        "rows.json",
    ),
    "200 MB of brackets": Case(
        written(b"", b"[", b""),
        of_file(r"rows\.json:1:2 \(byte 1\): broken JSON: the row is nested too deep"),
        "rows.json",
    ),
    "200 MB of objects in objects, in a line": Case(written(ROW, b'{"a":', b""), one("too large", TOO_LARGE)),
    "a number of 200 MB": Case(
        written(b"[", b"9", b"]"),
        of_file(rf"rows\.json\[0\] \(line 1\): {TOO_LARGE}|.*more digits.*"),
        "rows.json",
    ),
    "20 MB of white space": Case(
        written(b"", b" " * 63 + b"\n", b"", 20), r"datasets\[0\]: rows\.jsonl: the dataset is empty"
    ),
    "200 MB of white space in a list": Case(
        written(b"[", b" ", b""), of_file(r"rows\.json:1:\d+ \(byte \d+\): broken JSON: .*"), "rows.json"
    ),
    "two million objects in a row": Case(
        many_objects,
        one("wrong type", "output: is a list, not a text"),
    ),
    "a cell of 200 MB in CSV": Case(
        written(b"instruction,output\nq,", b"x", b"\n"),
        of_file(r"rows\.csv:2: " + OPEN_QUOTE),
        "rows.csv",
    ),
    "200 MB after an open quote in CSV": Case(
        written(b'instruction,output\nq,"', b"x" * 63 + b"\n", b""),
        of_file(r"rows\.csv:\d+: " + OPEN_QUOTE),
        "rows.csv",
    ),
    "a header of 200 MB in CSV": Case(
        written(b"", b"x,", b"\n"),
        of_file(r"rows\.csv:1: " + OPEN_QUOTE),
        "rows.csv",
    ),
    "a cell of 64 MB in Parquet": Case(
        parquet_cell, bad(1, 2, "too large", r"rows\.parquet\[1\]", f"output: {TOO_LARGE}"), "rows.parquet"
    ),
    "a long text that every row of Parquet refers to": Case(
        parquet_dictionary,
        bad(1, 9, "empty answer", r"rows\.parquet\[8\]", "output: the answer is empty"),
        "rows.parquet",
    ),
    "200 MB of nothing to recognise": Case(
        written(b"", b"{}\n", b""), AUTO + r"rows\.jsonl:1 has no fields: fits no format.*"
    ),
}

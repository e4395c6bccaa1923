"""Rows out of files: every row with its place, and every fault with line, column and byte."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorafinetune.api.datasets import Dataset
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare import json_window, lines
from lorafinetune_stages.prepare.findings import RowError
from lorafinetune_stages.prepare.formats import table_columns
from lorafinetune_stages.prepare.json_decoder import Decoder
from lorafinetune_stages.prepare.row_reader import read_rows
from lorafinetune_stages.store import ignore_progress

COLUMNS = table_columns(Dataset(source="s3://raw/a"))


def shown(path: Path, content: bytes, name: str = "a.json") -> list[str]:
    """Every row as `place value` or `place: what is wrong`."""
    path.write_bytes(content)
    rows = read_rows(path, name, ignore_progress, COLUMNS)
    return [f"{place}: {row}" if isinstance(row, RowError) else f"{place} {row}" for place, row in rows]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            b'[{"a": 1},\n {"a": 2}]',
            ["a.json[0] (line 1) {'a': 1}", "a.json[1] (line 2) {'a': 2}"],
            id="a list",
        ),
        pytest.param(b'{"a": 1}\n{"a": 2}\n', ["a.json:1 {'a': 1}", "a.json:2 {'a': 2}"], id="lines"),
        pytest.param(
            b'{"a": 1}\r\n\r\n{"a": 2}',
            ["a.json:1 {'a': 1}", "a.json:3 {'a': 2}"],
            id="blank lines count and are no rows",
        ),
        pytest.param(
            b'\xef\xbb\xbf[{"a": "\xe4\xbd\xa0"}]',
            ["a.json[0] (line 1) {'a': '你'}"],
            id="a byte order mark is skipped",
        ),
        pytest.param(
            b"\n\n [\n\n1,\n2]",
            ["a.json[0] (line 5) 1", "a.json[1] (line 6) 2"],
            id="white space before and in a list",
        ),
        pytest.param(b"[]", [], id="an empty list has no rows"),
        pytest.param(b" \n ", [], id="a blank file has no rows"),
        pytest.param(b"", [], id="an empty file has no rows"),
        pytest.param(
            b'{"a": 1}\n{"a": \n{"a": 3}',
            [
                "a.json:1 {'a': 1}",
                "a.json:2:6 (byte 14): broken JSON: Expecting value, and the line ends inside of the row",
                "a.json:3 {'a': 3}",
            ],
            id="a broken line spoils one row",
        ),
        pytest.param(
            '{"你": 1 2}\n'.encode(),
            ["a.json:1:9 (byte 10): broken JSON: Expecting ',' delimiter"],
            id="columns are characters and bytes are bytes",
        ),
        pytest.param(
            b'{"a": "\xff"}\n{"a": 1}',
            ["a.json:1:8 (byte 7): not valid UTF-8", "a.json:2 {'a': 1}"],
            id="a line that is not UTF-8",
        ),
        pytest.param(
            '{"你": "'.encode() + b'\xff"}',
            ["a.json:1:8 (byte 9): not valid UTF-8"],
            id="columns are characters in a line that is not UTF-8, too",
        ),
        pytest.param(
            b'{"a": [0, {"b": {"c": 1, "c": 2}}], "d": {"c": 1}}\n[{"a": 1, "a": 2}]',
            ["a.json:1: a[1].b.c: the field is given twice", "a.json:2: [0].a: the field is given twice"],
            id="a field given twice within others",
        ),
        pytest.param(
            b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n1",
            ["a.json:1: the row is nested too deep", "a.json:2 1"],
            id="a line that is nested too deep",
        ),
        pytest.param(
            b'{"a": ' + b"9" * 5000 + b"}",
            ["a.json:1: a number has more digits than can be read"],
            id="a huge number",
        ),
    ],
)
def test_rows_are_read_with_their_places(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    assert shown(tmp_path / "f", content) == expected


LIST_HINT = "Mend the file at this place: what follows in the list can't be read."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b'[{"a": 1},\n {"a": }]',
            "a.json:2:8 (byte 18): broken JSON: Expecting value",
            id="a value is missing",
        ),
        pytest.param(
            b'[{"a": 1}\n {"a": 2}]',
            "a.json:2:2 (byte 11): broken JSON: expected ',' or ']'",
            id="a comma is missing",
        ),
        pytest.param(
            b'[{"a": 1}, ]',
            "a.json:1:12 (byte 11): broken JSON: a comma before the end of a list",
            id="a comma too many",
        ),
        pytest.param(
            b'[{"a": 1}, {"a": "x',
            "a.json:1:18 (byte 17): broken JSON: Unterminated string, and the file ends inside of row [1]",
            id="a cut text",
        ),
        pytest.param(
            b'[{"a": 1}',
            "a.json:1:10 (byte 9): broken JSON: the file ends before the list does",
            id="a cut list",
        ),
        pytest.param(
            b'[{"a": 1}] {"a": 2}',
            "a.json:1:12 (byte 11): broken JSON: there is more after the end of the list",
            id="something after the list",
        ),
        pytest.param(
            '[{"a": "你"},\n{"b": "'.encode() + b'\xff"}]',
            "a.json:2:8 (byte 22): broken JSON: not valid UTF-8",
            id="a list that is not UTF-8",
        ),
        pytest.param(
            b"[" * 100_000,
            "a.json:1:2 (byte 1): broken JSON: the row is nested too deep",
            id="a nesting bomb",
        ),
        pytest.param(
            b"[" + b"9" * 5000 + b"]",
            "a.json:1:2 (byte 1): broken JSON: a number has more digits than can be read",
            id="a huge number",
        ),
    ],
)
def test_a_broken_list_ends_the_reading(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(StageError) as caught:
        shown(tmp_path / "f", content)
    assert (caught.value.message, caught.value.hint) == (message, LIST_HINT)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"PK\x03\x04", "is a zip archive", id="zip"),
        pytest.param(b"\x1f\x8b\x08", "is a gzip archive", id="gzip"),
        pytest.param("[1]".encode("utf-16"), "is UTF-16 text", id="utf-16"),
        pytest.param(b"instruction,output\n", "begins with 'instruction,'", id="csv of another name"),
        pytest.param(b"\x80\x04pickle", "is a Python pickle", id="pickle"),
        pytest.param(
            b"version https://git-lfs.github.com/spec/v1",
            "is a pointer of Git LFS, without the file itself",
            id="a pointer",
        ),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(StageError) as caught:
        shown(tmp_path / "f", content)
    expected = f"a.json:1: the file {what}; a dataset is a JSON list of rows, JSON Lines, CSV or Parquet"
    assert caught.value.message == expected


@pytest.fixture
def small_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_ROW_BYTES", 64)
    monkeypatch.setattr(json_window, "MAX_ROW_BYTES", 64)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 16)
    monkeypatch.setattr(json_window, "CHUNK_BYTES", 16)


@pytest.mark.usefixtures("small_rows")
def test_a_line_over_the_limit_spoils_one_row_and_is_not_held_in_memory(tmp_path: Path) -> None:
    content = b'{"a": 1}\n{"a": "' + b"x" * 500 + b'"}\n{"a": 3}\n'
    assert shown(tmp_path / "f", content) == [
        "a.json:1 {'a': 1}",
        "a.json:2: the row has more than 64 bytes",
        "a.json:3 {'a': 3}",
    ]


@pytest.mark.usefixtures("small_rows")
@pytest.mark.parametrize("length", [60, 500], ids=["by a little", "by much"])
def test_a_row_over_the_limit_ends_the_reading_of_a_list(tmp_path: Path, length: int) -> None:
    with pytest.raises(StageError) as caught:
        shown(tmp_path / "f", b'[{"a": 1},\n{"a": "' + b"x" * length + b'"}]')
    assert caught.value.message == "a.json[1] (line 2): the row has more than 64 bytes"
    assert "write JSON Lines" in caught.value.hint


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    rows=st.lists(json_values, min_size=1, max_size=8),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
def test_a_list_is_read_whole_however_it_is_cut_into_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Any],
    chunk: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "list.json"
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_window, "CHUNK_BYTES", chunk)
        found = list(read_rows(path, "list.json", ignore_progress, COLUMNS))
    assert [row for _, row in found] == rows
    assert [place.index for place, _ in found] == list(range(len(rows)))
    if indent == 0 and all(not isinstance(row, list | dict) for row in rows):
        assert [place.line for place, _ in found] == list(range(2, len(rows) + 2))


def told(decode: Callable[[str], Any], text: str) -> str:
    """What is read, or the error."""
    try:
        return repr(decode(text))
    except ValueError as problem:
        return f"{type(problem)}: {problem}"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
spaces = st.text(" \t\r\n\v\ufeff,}x1", max_size=2)


@given(
    st.text('[]{}":,0e-.\\u tn', max_size=10) | st.tuples(spaces, values.map(json.dumps), spaces).map("".join)
)
def test_a_row_is_read_as_the_standard_library_reads_it(text: str) -> None:
    found = told(Decoder().decode, text)
    assert found == told(json.JSONDecoder().decode, text) or found.startswith("RowError")


@given(content=st.binary(max_size=60).map(lambda tail: b"[" + tail) | st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_rows_or_a_stage_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    with contextlib.suppress(StageError):
        shown(tmp_path_factory.getbasetemp() / "fuzz.json", content)


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    for content in (b'[{"a": 1}, {"a": "\xe4\xbd\xa0"}]', b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\n'):
        path = tmp_path / "f"
        path.write_bytes(content)
        counted: list[int] = []
        list(read_rows(path, "a.json", counted.append, COLUMNS))
        assert sum(counted) == len(content)

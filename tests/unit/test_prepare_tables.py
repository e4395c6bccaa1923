"""Rows out of CSV and Parquet: what tables hold, with the place of every fault."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lorafinetune.api.datasets import Columns, Dataset
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare import csv_rows, parquet_rows
from lorafinetune_stages.prepare.findings import RowError
from lorafinetune_stages.prepare.format_detection import find_reader
from lorafinetune_stages.prepare.formats import table_columns
from lorafinetune_stages.prepare.row_reader import read_rows
from lorafinetune_stages.store import ignore_progress
from unit.prepare_rows import TEXTS, talk

Cells = dict[str, list[Any]]


def shown(path: Path, **columns: str) -> list[str]:
    """Every row as `place value` or `place: what is wrong`."""
    wanted = table_columns(Dataset(source="s3://raw/a", columns=Columns(**columns)))
    rows = read_rows(path, path.name, ignore_progress, wanted)
    return [f"{place}: {row}" if isinstance(row, RowError) else f"{place} {row}" for place, row in rows]


def csv_file(path: Path, content: str | bytes) -> Path:
    file = path / "a.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def parquet_file(path: Path, table: pa.Table | Cells, **options: Any) -> Path:
    file = path / "a.parquet"
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), file, **options)
    return file


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("a,b\n1,2\n", ["a.csv:2 {'a': '1', 'b': '2'}"], id="cells are texts"),
        pytest.param(
            "\ufeffa,b\r\n1,2\r\n\r\n3,4",
            ["a.csv:2 {'a': '1', 'b': '2'}", "a.csv:4 {'a': '3', 'b': '4'}"],
            id="as Excel writes it; blank lines count and are no rows",
        ),
        pytest.param(
            'a,b\n"x\ny","say ""hi"""\n,\n',
            ["a.csv:2 {'a': 'x\\ny', 'b': 'say \"hi\"'}", "a.csv:4 {'a': '', 'b': ''}"],
            id="quotes, and a record of two lines",
        ),
        pytest.param(
            "a,b\n1,2,3\n1\n1,2\n",
            [
                "a.csv:2: the row has 3 cells, and the first line names 2",
                "a.csv:3: the row has 1 cells, and the first line names 2",
                "a.csv:4 {'a': '1', 'b': '2'}",
            ],
            id="cells too many and too few spoil one row",
        ),
        pytest.param(
            b"a,b\n1,\xff\n1,2\n",
            ["a.csv:2: b: not valid UTF-8", "a.csv:3 {'a': '1', 'b': '2'}"],
            id="a cell that is not UTF-8 spoils one row",
        ),
        pytest.param(
            'messages,history\n"[1, {""a"": 2}]",\nx,[]\n',
            [
                "a.csv:2 {'messages': [1, {'a': 2}], 'history': None}",
                "a.csv:3: messages: the cell is a text, and not a list as JSON",
            ],
            id="lists are JSON in a cell",
        ),
        pytest.param("a,b\n", [], id="a header alone has no rows"),
    ],
)
def test_csv_is_read(tmp_path: Path, content: str | bytes, expected: list[str]) -> None:
    assert shown(csv_file(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param('a,b\n1,2\n"x,y\nz', "a.csv:3: broken CSV: unexpected end of data", id="an open quote"),
        pytest.param(
            'a,b\n"x"y,1\n', "a.csv:2: broken CSV: ',' expected after '\"'", id="text after a quote"
        ),
        pytest.param(
            "instruction;output\nq;a, b\n",
            "a.csv:1: the names of the columns are separated by ';', not by commas",
            id="semicolons for commas",
        ),
        pytest.param(
            "instruction\toutput\nq\ta\n",
            r"a.csv:1: the names of the columns are separated by '\t', not by commas",
            id="tabs for commas",
        ),
        pytest.param("a,a\n1,2\n", "a.csv:1: two columns are named a", id="two columns of one name"),
        pytest.param(
            "提问,b\n".encode("gbk"), "a.csv:1: the names of the columns are not valid UTF-8", id="GBK"
        ),
        pytest.param(
            "a,b\r1,2\r",
            "a.csv:1: broken CSV: new-line character seen in unquoted field",
            id="line ends of old Macs",
        ),
        pytest.param(
            'a,b\n"' + "x\n" * 40,
            "a.csv:33: the row, up to here, has more than 64 bytes: is a quote not closed?",
            id="a record over the limit",
        ),
    ],
)
def test_broken_csv_ends_the_reading(
    tmp_path: Path, content: str | bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 64)
    with pytest.raises(StageError) as caught:
        shown(csv_file(tmp_path, content))
    assert caught.value.message == message


TURN = {"role": "user", "content": "q"}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param(
            {"instruction": ["q", None], "output": ["a", "b"]},
            [
                "a.parquet[0] {'instruction': 'q', 'output': 'a'}",
                "a.parquet[1] {'instruction': None, 'output': 'b'}",
            ],
            id="texts and nulls",
        ),
        pytest.param(
            {"messages": [[TURN]], "score": [1.5]},
            ["a.parquet[0] {'messages': [{'role': 'user', 'content': 'q'}], 'score': None}"],
            id="nested lists; a column that no format knows is named, but not read",
        ),
        pytest.param(
            {"conversation": ['[{"input": "q"}]', "x"]},
            [
                "a.parquet[0] {'conversation': [{'input': 'q'}]}",
                "a.parquet[1]: conversation: the cell is a text, and not a list as JSON",
            ],
            id="lists that are JSON in a text",
        ),
        pytest.param(
            pa.table({"output": pa.array([b"ok", b"\xff"]).cast(pa.string(), safe=False)}),
            ["a.parquet[0] {'output': 'ok'}", "a.parquet[1]: output: not valid UTF-8"],
            id="a text that is not UTF-8 spoils one row",
        ),
        pytest.param(
            {"output": [b"a"], "prompt": [datetime.date(2026, 1, 2)]},
            ["a.parquet[0] {'output': b'a', 'prompt': datetime.date(2026, 1, 2)}"],
            id="other types reach the checks",
        ),
        pytest.param({"output": pa.array([], pa.string())}, [], id="no rows"),
        pytest.param({"x": [1]}, ["a.parquet[0] {'x': 1}"], id="with no known column all are read"),
    ],
)
def test_parquet_is_read(tmp_path: Path, table: pa.Table | Cells, expected: list[str]) -> None:
    assert shown(parquet_file(tmp_path, table)) == expected


def test_a_large_row_of_parquet_is_bad_and_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "MAX_ROW_BYTES", 64)
    monkeypatch.setattr(parquet_rows, "MAX_UNPACKED", 64)
    assert shown(parquet_file(tmp_path, {"output": ["a", "x" * 100, "b"]})) == [
        "a.parquet[0] {'output': 'a'}",
        "a.parquet[1]: output: the row has more than 64 bytes",
        "a.parquet[2] {'output': 'b'}",
    ]


def truncated(content: bytes) -> bytes:
    return content[:-20]


def without_pages(content: bytes) -> bytes:
    """The footer is whole, and what it speaks of is not."""
    return content[:4] + bytes(200) + content[204:]


@pytest.mark.parametrize(
    ("spoil", "place"),
    [(truncated, "a.parquet"), (without_pages, "a.parquet[0]"), (lambda _: b"PAR1", "a.parquet")],
    ids=["cut", "zeroed", "magic alone"],
)
def test_broken_parquet_ends_the_reading(tmp_path: Path, spoil: Any, place: str) -> None:
    file = parquet_file(tmp_path, {"output": [str(number) for number in range(500)]})
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(StageError) as caught:
        shown(file)
    assert caught.value.message.startswith(f"{place}: broken Parquet: ")


def test_a_file_that_claims_more_rows_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    file = parquet_file(tmp_path, {"output": pa.array([None] * 100_000, pa.string())})
    with pytest.raises(StageError, match=r"claims to hold 100000 rows in \d+ bytes$"):
        shown(file)


def test_progress_counts_the_bytes_of_a_table_once(tmp_path: Path) -> None:
    wanted = table_columns(Dataset(source="s3://raw/a"))
    for file in (
        csv_file(tmp_path, "\ufeffoutput\n" + "你\n" * 10),
        parquet_file(tmp_path, {"output": [str(number) for number in range(300)]}),
    ):
        counted: list[int] = []
        list(read_rows(file, file.name, counted.append, wanted))
        assert sum(counted) == file.stat().st_size


@pytest.mark.parametrize("name", ["auto", "openai"])
def test_openai_messages_of_a_table_become_a_conversation(tmp_path: Path, name: str) -> None:
    answer = {"role": "assistant", "content": "a", "tool_calls": None}
    file = parquet_file(tmp_path, {"messages": [[TURN | {"tool_calls": None}, answer]]})
    dataset = Dataset.decode({"source": "s3://raw/a", "format": name})
    rows = list(read_rows(file, file.name, ignore_progress, table_columns(dataset)))
    reader = find_reader(dataset, 0, rows)
    assert (reader.format, reader.convert(rows[0][1], TEXTS)) == ("openai", talk("q", "a"))


def test_a_column_that_is_named_for_texts_is_not_unpacked(tmp_path: Path) -> None:
    file = csv_file(tmp_path, 'messages,b\n"[1]",x\n')
    assert shown(file, prompt="messages", response="b") == ["a.csv:2 {'messages': '[1]', 'b': 'x'}"]

"""Broken Parquet, and whole Parquet with rows that can't be learned from."""

import datetime
import decimal
import struct
from typing import Any

import pyarrow as pa

from faults.data.making import ALPACA, AUTO, OPENAI, Case, bad, lines, of_file, parquet

NAME = "rows.parquet"
ROWS = {name: [f"{value or 'x'}{number}" for number in range(400)] for name, value in ALPACA.items()}
WHOLE = parquet(ROWS, compression="none")
BROKEN = of_file(r"rows\.parquet(\[\d+\])?: broken Parquet: .+")


def column(values: Any, name: str = "output", kind: pa.DataType | None = None) -> bytes:
    """Two alpaca rows with another column in place of one of theirs."""
    columns = {key: pa.array([value or "x"] * 2) for key, value in ALPACA.items()}
    return parquet(columns | {name: pa.array(values, kind)})


def second_row(kind: str, what: str) -> str:
    return bad(1, 2, kind, r"rows\.parquet\[1\]", what)


def both_rows(kind: str, what: str) -> str:
    return bad(2, 2, kind, r"rows\.parquet\[0\]", what)


def with_footer_length(content: bytes, length: int) -> bytes:
    return content[:-8] + struct.pack("<I", length) + content[-4:]


SPOILED = {
    "Parquet's first bytes alone": b"PAR1",
    "Parquet's first and last bytes alone": b"PAR1PAR1",
    "Parquet without its end": WHOLE[:-1],
    "Parquet without its footer": WHOLE[: len(WHOLE) // 2],
    "Parquet with a footer of no bytes": with_footer_length(WHOLE, 0),
    "Parquet with a footer longer than the file": with_footer_length(WHOLE, 2**31 - 1),
    "Parquet with a footer that begins too late": with_footer_length(WHOLE, 16),
    "Parquet with zeros for pages": WHOLE[:4] + bytes(600) + WHOLE[604:],
    "Parquet with ones for pages": WHOLE[:4] + b"\xff" * 600 + WHOLE[604:],
    "Parquet with zeros for a footer": WHOLE[:-200] + bytes(192) + WHOLE[-8:],
    "Parquet with two columns of a name": parquet(
        pa.table([pa.array(["a"]), pa.array(["b"])], names=["output", "output"])
    ),
    "lines behind Parquet's first bytes": b"PAR1\n" + lines(ALPACA),
}

VALUES: dict[str, tuple[bytes, str]] = {
    "Parquet with a null answer": (
        column(["a", None]),
        second_row("no answer", "output: the answer is missing"),
    ),
    "Parquet with a column of nulls": (
        column([None, None]),
        both_rows("no answer", "output: the answer is missing.*"),
    ),
    "Parquet with an empty answer": (column(["a", ""]), second_row("empty answer", "output: .*")),
    "Parquet with numbers for answers": (
        column([1, 2]),
        both_rows("wrong type", "output: is a number, not a text.*"),
    ),
    "Parquet with NaN": (
        column([1.0, float("nan")]),
        both_rows("wrong type", "output: is a number, not a text.*"),
    ),
    "Parquet with bytes for answers": (
        column([b"a", b"\xff"]),
        both_rows("wrong type", "output: is binary data, not a text.*"),
    ),
    "Parquet with times for answers": (
        column([datetime.datetime(2026, 1, 1)] * 2),
        both_rows("wrong type", "output: is a time, not a text.*"),
    ),
    "Parquet with a year that Python lacks": (
        column([0, 2**62], kind=pa.timestamp("us")),
        bad(2, 2, "wrong type", r"rows\.parquet\[0\]", "output: .*"),
    ),
    "Parquet with dates for answers": (
        column([datetime.date(2026, 1, 1)] * 2),
        both_rows("wrong type", "output: is a date, not a text.*"),
    ),
    "Parquet with decimals for answers": (
        column([decimal.Decimal("1.5")] * 2),
        both_rows("wrong type", "output: is a value of the type Decimal, not a text.*"),
    ),
    "Parquet with lists for answers": (
        column([["a"], ["b"]]),
        both_rows("wrong type", "output: is a list, not a text.*"),
    ),
    "Parquet with objects for answers": (
        column([{"text": "a"}] * 2),
        both_rows("wrong type", "output: is an object, not a text.*"),
    ),
    "Parquet with text that is not UTF-8": (
        parquet(
            pa.table(
                {
                    "instruction": ["q", "r"],
                    "output": pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False),
                }
            )
        ),
        second_row("invalid UTF-8", "output: not valid UTF-8"),
    ),
    "Parquet with a control character": (
        column(["a", "a\x00"]),
        second_row("control character", r"output: character 1 is U\+0000"),
    ),
    "Parquet with a special token": (
        column(["a", "<|user|>"]),
        second_row("special token in text", "output: .*"),
    ),
    "Parquet with a text for a history": (
        column([None, "not json"], "history"),
        second_row("broken JSON", "history: the cell is a text, and not a list as JSON"),
    ),
    "Parquet with a history of triples": (
        column([None, [["q", "a", "b"]]], "history"),
        second_row("wrong type", r"history\[0\]: is not a pair.*"),
    ),
    "Parquet with a map for a history": (
        column([[("q", "a")]] * 2, "history", pa.map_(pa.string(), pa.string())),
        both_rows("wrong type", r"history\[0\]: is not a pair of a prompt and an answer.*"),
    ),
    "Parquet with a null turn": (
        parquet({"messages": [OPENAI["messages"], [None]]}),
        second_row("wrong type", r"messages\[0\]: is null, not an object"),
    ),
    "Parquet with a null role": (
        parquet({"messages": [OPENAI["messages"], [{"role": None, "content": "q"}]]}),
        second_row("roles out of order", r"messages\[0\]\.role: the role is null.*"),
    ),
    "Parquet with no turns": (
        parquet({"messages": [OPENAI["messages"], []]}),
        second_row("no answer", "messages: has no turns"),
    ),
    "Parquet with null turns": (
        parquet({"messages": [OPENAI["messages"], None]}),
        second_row("wrong type", "messages: is null, not a list of messages"),
    ),
}

OTHER = {
    "Parquet without rows": Case(
        parquet({"output": pa.array([], pa.string())}),
        r"datasets\[0\]: rows\.parquet: the dataset is empty",
        NAME,
    ),
    "Parquet without columns": Case(
        parquet(pa.table({})), r"datasets\[0\]: rows\.parquet: the dataset is empty", NAME
    ),
    "Parquet of other columns": Case(
        parquet({"vector": [[1.0]]}),
        AUTO + r"rows\.parquet\[0\] has the fields vector: fits no format.*",
        NAME,
    ),
    "Parquet that claims a million rows": Case(
        parquet({"output": pa.array([None] * 1_000_000, pa.string())}),
        of_file(r"rows\.parquet: broken Parquet: claims to hold 1000000 rows in \d+ bytes"),
        NAME,
    ),
    "Parquet named .jsonl, broken": Case(WHOLE[:-9], of_file(r"rows\.jsonl: broken Parquet: .*")),
}

PARQUET_CASES = (
    {
        sentence: Case(
            content,
            of_file(r"rows\.parquet: two columns are named output") if "of a name" in sentence else BROKEN,
            NAME,
        )
        for sentence, content in SPOILED.items()
    }
    | {sentence: Case(content, error, NAME) for sentence, (content, error) in VALUES.items()}
    | OTHER
)

"""What broken datasets are made of."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lorafinetune.api.training import Objective

ALPACA = {"instruction": "q", "input": "", "output": "a"}
SINGLE = {"prompt": "q", "completion": "a"}
MULTI = {"conversation": [{"system": "s", "input": "q", "output": "a"}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
OPENAI = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}

AUTO = r"datasets\[0\]\.format: auto can't tell the format: "

Content = bytes | Mapping[str, bytes] | Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """content: of one file, or files by name, or what writes the file. error: what the message must match.
    fields: of the Dataset. name: of the one file. objective: what the rows are for."""

    content: Content
    error: str
    name: str = "rows.jsonl"
    fields: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective = "sft"

    def write(self, root: Path) -> None:
        """Writes the files below `root`."""
        if isinstance(self.content, Mapping):
            for name, content in self.content.items():
                (root / name).write_bytes(content)
        elif isinstance(self.content, bytes):
            (root / self.name).write_bytes(self.content)
        else:
            self.content(root / self.name)


def lines(*rows: Any) -> bytes:
    """JSON Lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def listed(*rows: Any) -> bytes:
    """A JSON list, one row a line."""
    return b"[" + b",\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows) + b"]"


def parquet(columns: Mapping[str, Any] | pa.Table, **options: Any) -> bytes:
    sink = BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """JSON in JSON in JSON."""
    return opening * depth + closing * depth


def bad(count: int, rows: int, kind: str, place: str, what: str) -> str:
    """The message over one dataset, as a pattern; place and what are patterns."""
    return (
        rf"datasets\[0\]: {count} of {rows} rows can't be learned from \({count} {kind}\)\n  {place}: {what}"
    )


def one(kind: str, what: str) -> str:
    """The message over a good row and a bad one after it, in JSON Lines."""
    return bad(1, 2, kind, r"rows\.jsonl:2(?::\d+ \(byte \d+\))?", what)


def file_error(what: str) -> str:
    """The message over a kind of file that is not read."""
    return of_file(
        rf"rows\.\w+:1: the file {what}; a dataset is a JSON list of rows, JSON Lines, CSV or Parquet"
    )


def of_file(error: str) -> str:
    """The message over what ends the reading of a file; error is a pattern."""
    return rf"datasets\[0\]: (?:{error})"

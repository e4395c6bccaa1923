"""Rows and their parts, for the tests of the formats."""

from pathlib import Path
from typing import Any

from lorafinetune.api.datasets import Columns, Dataset
from lorafinetune.api.training import Objective
from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.format_detection import find_reader
from lorafinetune_stages.prepare.inputs import DatasetFiles
from lorafinetune_stages.prepare.texts import Texts
from stages.prepare_builders import listed_as

TEXTS = Texts({"<|im_end|>", "<s>"})
ALPACA = {"instruction": "q", "input": "", "output": "a"}
TOOL = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"x": {}}}}
CALL = {"name": "f", "arguments": {"x": 1}}


def convert(row: Any, name: str = "auto", objective: Objective = "sft", /, **columns: str) -> Conversation:
    """The row as a dataset of that format reads it."""
    dataset = Dataset.decode({"source": "s3://raw/a", "format": name, "columns": Columns(**columns).encode()})
    return find_reader(dataset, 0, [(Place("a", 1), row)], objective).convert(row, TEXTS)


def fetched(root: Path, dataset: Dataset, content: bytes) -> DatasetFiles:
    """A dataset of one file, rows.jsonl, where a merger that works in `root` looks for it."""
    (root / "0").mkdir(exist_ok=True)
    (root / "0" / "rows.jsonl").write_bytes(content)
    return listed_as(dataset, {"rows.jsonl": len(content)})


def talk(*turns: str, system: str = "", tools: str = "") -> Conversation:
    """User and assistant in turn."""
    spoken = [Turn("assistant" if index % 2 else "user", content) for index, content in enumerate(turns)]
    return Conversation(tuple(spoken), system, tools)


def human(value: Any) -> dict[str, Any]:
    return {"from": "human", "value": value}


def gpt(value: Any) -> dict[str, Any]:
    return {"from": "gpt", "value": value}


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def part(text: str) -> dict[str, Any]:
    """Of a message's content, in openai's way."""
    return {"type": "text", "text": text}


SHAREGPT = {"conversations": [human("q"), gpt("a")]}
OPENAI = {"messages": [say("user", "q"), say("assistant", "a")]}

"""A whole prepare whose work is shared by several processes."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from lorafinetune_stages.prepare import fast_path, workers
from stages.peer import smollm2
from stages.prepare_builders import Bench, json_lines

pytestmark = pytest.mark.model


def conversation(*texts: str) -> dict[str, Any]:
    said = zip(cycle(("human", "gpt")), texts, strict=False)
    return {"conversations": [{"from": who, "value": text} for who, text in said]}


LEVEL = {"type": "integer", "enum": [1, 2]}
UNWRITABLE = [{"name": "f", "parameters": {"type": "object", "properties": {"level": LEVEL}}}]
ODD: Mapping[int, Any] = {
    5: conversation("q", ""),
    77: conversation("q", "a " * 200),
    90: conversation("q", "a") | {"tools": UNWRITABLE},
    400: conversation("q", "a", "r", "b") | {"system": "s"},
}
"""By the row's number: bad when it is read, when it is cut, and when it is written; and one that is good."""


def rows(count: int) -> bytes:
    every = (conversation(f"q{number}", "a " * (number % 40 + 1)) for number in range(count))
    return json_lines([ODD.get(number, row) for number, row in enumerate(every)])


def test_the_bytes_are_the_same_however_many_processes_share_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorafinetune_stages.prepare.row_reader.FEW_STRETCHES", 1)
    monkeypatch.setattr("lorafinetune_stages.prepare.conversation_builder.FEW_BATCHES", 1)
    monkeypatch.setattr(fast_path, "STRETCH_BYTES", 2**13)
    monkeypatch.setattr("lorafinetune_stages.prepare.batches.BATCH_ROWS", 64)
    found = []
    for processes in (1, 2, 3):
        monkeypatch.setattr(workers, "processors", lambda processes=processes: processes)
        bench = Bench(tmp_path / str(processes), smollm2()).add(rows(1000), on_bad_row="skip")
        result = bench.run(cutoff_length=128, evaluation={"fraction": "0.3"})
        found.append(bench.manifest(result.key).files)
        assert (result.dataset.rows, result.dataset.dropped) == (697, 3)
    assert found[1:] == found[:1] * 2

"""What prepare as a whole says of broken datasets: one of each kind ends as it would in the status."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.data.heavy_cases import HEAVY_CASES
from faults.data.staged import MODULES, prepare
from faults.data.test_broken import CASES
from faults.nursery import Nursery
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import ExitCode, StageError, decode_message

PLACES = {
    "a zip archive named .jsonl": "rows.jsonl:1: ",
    "GBK lines": "rows.jsonl:2:18 (byte 66): ",
    "a list nested too deep": "rows.json:1:2 (byte 1): ",
    "a huge number": "rows.jsonl:2: ",
    "CSV with an open quote": "rows.csv:2: ",
    "no bytes": "rows.jsonl: ",
    "a broken file among good ones": "b.json:1:3 (byte 2): ",
    "a special token in an answer, in openai": "rows.jsonl:2: messages[1].content: ",
    "Parquet without its footer": "rows.parquet: ",
    "Parquet with a null turn": "rows.parquet[1]: ",
    "a lone surrogate for the chosen answer": "rows.jsonl:2: chosen: ",
    "a zero byte in plain text": "rows.jsonl:2: text: ",
    "a call of a bomb": "rows.jsonl:2: conversations[1].value: ",
    "20 MB of white space": "rows.jsonl: ",
}
"""Where each of them is to be looked at."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery(*MODULES) as started:
        yield started


@pytest.mark.timeout(60)
@pytest.mark.parametrize("sentence", PLACES)
def test_a_broken_dataset_fails_the_stage_with_its_place_and_a_hint(
    sentence: str, nursery: Nursery, tmp_path: Path
) -> None:
    case = (CASES | HEAVY_CASES)[sentence]
    ended = prepare(nursery, case, tmp_path)
    assert ended.slow == []
    assert ended.code == ExitCode.BAD_INPUT, ended.log
    assert "Traceback" not in ended.log + ended.message
    error = decode_message("prepare", ended.message)
    assert isinstance(error, StageError)
    assert error.reason is Reason.DATASET_INVALID
    assert re.fullmatch(case.error, error.message, re.DOTALL), error.message
    assert PLACES[sentence] in error.message
    assert error.hint

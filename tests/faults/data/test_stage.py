"""What prepare as a whole says of broken datasets: one of each kind ends as it would in the status."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.data.heavy_cases import HEAVY_CASES
from faults.data.making import ALPACA, SHAREGPT, Case, lines, one
from faults.data.staged import LATE_MODULES, MODULES, Ended, prepare
from faults.data.test_broken import CASES
from faults.nursery import Nursery
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import ExitCode, StageError, decode_message
from stages.peer import smollm2

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

CUT = r"\d+ of the \d+ tokens of its %s are left within training\.cutoffLength 2048 .*"
MIXED_ENUM = {"type": "object", "properties": {"level": {"type": "integer", "enum": [1, "2"]}}}
LATE_CASES = {
    "a prompt beyond the cutoff": Case(
        lines(ALPACA, ALPACA | {"instruction": "why " * 4000}),
        one(
            "prompt cut off",
            CUT % "prompt",
        ),
    ),
    "an answer beyond the cutoff": Case(
        lines(ALPACA, ALPACA | {"output": "because " * 4000}),
        one(
            "answer cut off",
            CUT % "answer",
        ),
    ),
    "tools that the template can't write": Case(
        lines(SHAREGPT, SHAREGPT | {"tools": [{"name": "f", "parameters": MIXED_ENUM}]}),
        one("unusable tools", r"tools: the template can't write its tools: .*"),
    ),
}
"""Found bad as their tokens are made, by a base that is whole."""


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
    message = refused(ended)
    assert re.fullmatch(case.error, message, re.DOTALL), message
    assert PLACES[sentence] in message


@pytest.fixture(scope="module")
def late_nursery() -> Iterator[Nursery]:
    with Nursery(*LATE_MODULES) as started:
        yield started


@pytest.mark.model
@pytest.mark.timeout(120)
@pytest.mark.parametrize("sentence", LATE_CASES)
def test_so_does_one_whose_fault_shows_in_its_tokens(
    sentence: str, late_nursery: Nursery, tmp_path: Path
) -> None:
    case = LATE_CASES[sentence]
    message = refused(prepare(late_nursery, case, tmp_path, smollm2()))
    assert re.fullmatch(case.error, message, re.DOTALL), message


def refused(ended: Ended) -> str:
    """What the stage says of rows that nobody can learn from."""
    assert ended.code == ExitCode.BAD_INPUT, ended.log
    assert "Traceback" not in ended.log + ended.message
    error = decode_message("prepare", ended.message)
    assert isinstance(error, StageError)
    assert error.reason is Reason.DATASET_INVALID
    assert error.hint
    return error.message

"""Every broken dataset ends in its documented error."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faults.data.heavy_cases import HEAVY_CASES
from faults.data.making import Case
from faults.data.objective_cases import OBJECTIVE_CASES
from faults.data.parquet_cases import PARQUET_CASES
from faults.data.reading import read
from faults.data.row_cases import ROW_CASES
from faults.data.text_cases import TEXT_CASES
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, decode_message, encode_error

DEADLINE_SECONDS = 60
CASES: dict[str, Case] = TEXT_CASES | ROW_CASES | PARQUET_CASES | OBJECTIVE_CASES


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(CASES) == sum(map(len, (TEXT_CASES, ROW_CASES, PARQUET_CASES, OBJECTIVE_CASES))) >= 150


@pytest.mark.timeout(DEADLINE_SECONDS)
@pytest.mark.parametrize("sentence", CASES)
def test_a_broken_dataset_ends_in_its_error(sentence: str, tmp_path: Path) -> None:
    case = CASES[sentence]
    case.write(tmp_path)
    with pytest.raises(StageError) as caught:
        read(tmp_path, case.fields, case.objective)
    assert re.fullmatch(case.error, caught.value.message, re.DOTALL), caught.value.message
    assert caught.value.reason in (Reason.DATASET_INVALID, Reason.CONFIG_INVALID)
    assert caught.value.hint
    travelled = decode_message("prepare", encode_error(caught.value))
    assert isinstance(travelled, StageError)
    assert travelled.message == caught.value.message
    assert caught.value.message.replace("\n", "").isprintable()


MAX_SECONDS = 5
"""Of the processor, for one of the heavy datasets."""
MAX_MIB = 500


def outcome(dataset: Path) -> tuple[str, float, int]:
    """Message, seconds and MiB of a process of its own, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "faults.data", str(dataset)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        check=True,
    )
    message, seconds, peak = json.loads(done.stdout)
    return message, seconds, peak


@pytest.mark.parametrize("sentence", HEAVY_CASES)
def test_a_heavy_dataset_ends_in_its_error_in_bounded_time_and_memory(sentence: str, tmp_path: Path) -> None:
    case = HEAVY_CASES[sentence]
    case.write(tmp_path)
    message, seconds, peak = outcome(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    assert re.fullmatch(case.error, message, re.DOTALL), message
    assert seconds < MAX_SECONDS
    assert peak < MAX_MIB

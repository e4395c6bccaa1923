"""Every broken dataset ends in its documented error, and takes little time and memory until then."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.data.heavy_cases import HEAVY_CASES
from faults.data.making import Case
from faults.data.measured import measure, nursery
from faults.data.objective_cases import OBJECTIVE_CASES
from faults.data.parquet_cases import PARQUET_CASES
from faults.data.row_cases import ROW_CASES
from faults.data.text_cases import TEXT_CASES
from faults.nursery import Nursery
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, decode_message, encode_error

CASES: dict[str, Case] = TEXT_CASES | ROW_CASES | PARQUET_CASES | OBJECTIVE_CASES


MAX_SECONDS = 2
"""Of the processor, for one dataset."""
MAX_MIB = 40
"""By which memory grows for one dataset. Half of it are pages of pyarrow."""
MAX_HEAVY_SECONDS = 5
MAX_HEAVY_MIB = 450
DEADLINE_SECONDS = 60

pytestmark = pytest.mark.timeout(DEADLINE_SECONDS)


@pytest.fixture(scope="module", name="nursery")
def readers() -> Iterator[Nursery]:
    with nursery() as started:
        yield started


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(CASES) == sum(map(len, (TEXT_CASES, ROW_CASES, PARQUET_CASES, OBJECTIVE_CASES))) >= 150


@pytest.mark.parametrize("sentence", CASES)
def test_a_broken_dataset_ends_in_its_error(sentence: str, nursery: Nursery, tmp_path: Path) -> None:
    found = measure(nursery, CASES[sentence], tmp_path)
    ends_in(CASES[sentence], found.error)
    assert found.seconds < MAX_SECONDS
    assert found.mib < MAX_MIB


@pytest.mark.parametrize("sentence", HEAVY_CASES)
def test_a_heavy_dataset_ends_in_its_error_in_bounded_time_and_memory(
    sentence: str, nursery: Nursery, tmp_path: Path
) -> None:
    found = measure(nursery, HEAVY_CASES[sentence], tmp_path)
    ends_in(HEAVY_CASES[sentence], found.error)
    assert found.seconds < MAX_HEAVY_SECONDS
    assert found.mib < MAX_HEAVY_MIB


def test_what_a_dataset_takes_is_seen(nursery: Nursery, tmp_path: Path) -> None:
    found = measure(nursery, HEAVY_CASES["a cell of 64 MB in Parquet"], tmp_path)
    assert found.mib > 64
    assert found.seconds > 0


def ends_in(case: Case, error: StageError) -> None:
    assert re.fullmatch(case.error, error.message, re.DOTALL), error.message
    assert error.reason in (Reason.DATASET_INVALID, Reason.CONFIG_INVALID)
    assert error.hint
    travelled = decode_message("prepare", encode_error(error))
    assert isinstance(travelled, StageError)
    assert travelled.message == error.message
    assert error.message.replace("\n", "").isprintable()

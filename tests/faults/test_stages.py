"""A seeded part of the crash matrices of the stages: `make faults` tries all of them."""

from pathlib import Path

import pytest

from faults import stages
from faults.outcome import SEED

SHARES = {"prepare": 0.1, "train": 0.03, "export": 0.1}


@pytest.mark.s3
def test_a_download_is_as_if_nothing_had_gone_wrong(tmp_path: Path) -> None:
    outcome = stages.matrix({"download": 0.2}, tmp_path, SEED)
    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert outcome.rows


@pytest.mark.s3
@pytest.mark.model
@pytest.mark.filterwarnings("ignore")
def test_what_a_stage_makes_is_as_if_nothing_had_gone_wrong(tmp_path: Path) -> None:
    outcome = stages.matrix(SHARES, tmp_path, SEED)
    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert outcome.rows

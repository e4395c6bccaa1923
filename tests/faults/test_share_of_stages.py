"""A share of the matrix of the stages, of one seed: each run ends as if nothing had gone wrong.

`make faults` tries the whole; what it came to is in docs/reliability.md.
"""

from pathlib import Path
from typing import Final

import pytest

from faults import stages
from faults.outcome import SEED

SHARES: Final = {"download": 0.05, "prepare": 0.03, "train": 0.05, "export": 0.04}


@pytest.mark.s3
@pytest.mark.parametrize("stage", SHARES)
def test_a_fault_at_a_write_leaves_no_trace(stage: str, tmp_path: Path) -> None:
    outcome = stages.matrix_of(stage, tmp_path, SHARES[stage], SEED)
    assert outcome.rows
    assert not outcome.complaints

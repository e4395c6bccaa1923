"""A seeded part of the crash matrix of the operator: `make faults` tries all of it."""

from pathlib import Path

import pytest

from faults import crash
from faults.outcome import SEED

SHARE = 0.12


@pytest.mark.apiserver
def test_a_life_ends_as_if_nothing_had_gone_wrong(tmp_path: Path) -> None:
    outcome = crash.matrix(tmp_path, SHARE, SEED)
    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert len(outcome.rows) >= 10

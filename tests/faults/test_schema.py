"""A seeded part of the changes of every property: `make faults` tries all of them."""

from pathlib import Path

import pytest

from faults import schema
from faults.outcome import SEED

SHARE = 0.03


@pytest.mark.apiserver
def test_a_changed_resource_comes_to_where_a_fresh_one_comes_to(tmp_path: Path) -> None:
    outcome = schema.matrix(tmp_path, SHARE, SEED)
    assert not outcome.complaints, "\n".join(outcome.complaints)
    assert all(row["points"] for row in outcome.rows)

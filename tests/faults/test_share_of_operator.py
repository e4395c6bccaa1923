"""A share of the operator's matrices, of one seed: each life ends as if nothing had gone wrong.

`make faults` tries the whole; what it came to is in docs/reliability.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from faults import crash, schema
from faults.outcome import SEED, Outcome

SHARE: Final = 0.01

TABLE: Final[dict[str, Callable[[Path, float, int], Outcome]]] = {
    "a fault at a write or at an event leaves no trace": crash.matrix,
    "an edited run ends as a fresh one": schema.matrix,
}


@pytest.mark.apiserver
@pytest.mark.parametrize("sentence", TABLE)
def test_of_the_operator(sentence: str, tmp_path: Path) -> None:
    outcome = TABLE[sentence](tmp_path, SHARE, SEED)
    assert outcome.rows
    assert not outcome.complaints

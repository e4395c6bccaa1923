"""What a matrix of faults came to, in the same columns whatever was harmed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.results import Row

SEED: Final = 7
PREFIX: Final = "faults_"
"""Of the name of a part's results."""
NOT_REACHED: Final = "not reached"
"""The column that counts points whose write or event that life never came to."""


@dataclass(frozen=True)
class Outcome:
    """rows: a table. complaints: each point that did not end as it should; none where all is well."""

    rows: Sequence[Row]
    complaints: Sequence[str]

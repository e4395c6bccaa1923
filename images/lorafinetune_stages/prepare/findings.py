"""What is wrong with rows: kinds, places, counts, and the verdict over every dataset."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.refusal import Refused, describe

log = logging.getLogger("lorafinetune")

KEPT_PLACES: Final = 20
"""Of each dataset."""
MAX_SHOWN: Final = 300
"""Characters of one place: names come from outside."""
MAX_NAME: Final = 64

SKIP: Final = "set `onBadRow: skip` on the dataset"
ALLOW_MORE: Final = "raise the dataset's `maxBadFraction`"
LEAVE_OUT: Final = "leave out the dataset"
RAISE_CUTOFF: Final = "raise `training.cutoffLength`"
"""What helps beside other rows."""


class Kind(StrEnum):
    """Kinds of bad rows, as they are counted."""

    BROKEN_JSON = "broken JSON"
    INVALID_UTF8 = "invalid UTF-8"
    TOO_LARGE = "too large"
    NESTED_TOO_DEEP = "nested too deep"
    WRONG_CELLS = "wrong number of cells"
    NOT_AN_OBJECT = "not an object"
    MISSING_FIELD = "missing field"
    WRONG_TYPE = "wrong type"
    NO_ANSWER = "no answer"
    EMPTY_ANSWER = "empty answer"
    EMPTY_PROMPT = "empty prompt"
    EMPTY_TEXT = "empty text"
    EQUAL_ANSWERS = "equal answers"
    PROMPTS = "different prompts"
    ROLES = "roles out of order"
    CONTROL_CHARACTER = "control character"
    LONE_SURROGATE = "lone surrogate"
    SPECIAL_TOKEN = "special token in text"  # noqa: S105 - a kind of finding
    TOOLS = "unusable tools"
    WEIGHT = "weighted message"
    CUT_OFF = "answer cut off"
    PROMPT_CUT_OFF = "prompt cut off"


@dataclass(slots=True)
class Place:
    """Where a row is. line counts from 1; Parquet has none. index counts from 0, and is given in a list
    of rows and in Parquet; column (from 1) and byte (from 0) are given where the text itself is broken.

    Not frozen: there is one for every row, and a frozen one takes four times as long to make.
    """

    file: str
    line: int | None
    index: int | None = None
    column: int | None = None
    byte: int | None = None

    def __str__(self) -> str:
        file = self.file if self.file.isprintable() else ascii(self.file)
        if self.column is not None:
            return f"{file}:{self.line}:{self.column} (byte {self.byte})"
        if self.index is None:
            return file if self.line is None else f"{file}:{self.line}"
        return f"{file}[{self.index}]" + ("" if self.line is None else f" (line {self.line})")


Row = tuple[Place, Any]
"""A place with the row's value, or with the RowError that took its place."""


def printable_start(name: str) -> str:
    """The start of a name that comes from outside, without anything that a terminal would obey."""
    return name[:MAX_NAME] if name and name.isprintable() else ascii(name[:MAX_NAME])


class RowError(Exception):
    """A row that can't be learned from. field: where in the row, like `history[2]`; empty for the whole."""

    def __init__(self, kind: Kind, field: str, what: str) -> None:
        super().__init__(kind, field, what)
        self.kind = kind

    def __str__(self) -> str:
        _, field, what = self.args
        return f"{field}: {what}" if field else str(what)


@dataclass
class Bad:
    """The bad ones among some rows of a dataset. places: the first of them, each with its fault."""

    rows: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)


class Findings:
    """Counts the rows and the bad ones of every dataset, keeps the first places, and has them in the log.

    Some faults show only in tokens, which are made of chosen rows alone: these are judged by themselves.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = datasets
        self._read = [Bad() for _ in datasets]
        self._chosen = [Bad() for _ in datasets]
        self._looked_at = self._read
        self.left_out: set[int] = set()
        """Numbers of chosen rows that are bad."""

    def count_rows(self, dataset: int, rows: int) -> None:
        """So many more were read."""
        self._read[dataset].rows += rows

    def begin_chosen(self, rows: Sequence[int]) -> None:
        """From now on those are found bad that were chosen. rows: how many these are of each dataset."""
        self._chosen = [Bad(count) for count in rows]
        self._looked_at = self._chosen

    def leave_out(self, number: int, dataset: int, place: str, problem: RowError) -> None:
        """A chosen row is bad."""
        self.left_out.add(number)
        self.add(dataset, place, problem)

    def add(self, dataset: int, place: str, problem: RowError) -> None:
        """A row that was counted is bad."""
        found = self._looked_at[dataset]
        found.kinds[problem.kind] += 1
        if len(found.places) < KEPT_PLACES:
            found.places.append(f"{place}: {problem}"[:MAX_SHOWN])
            log.warning("bad row: datasets[%d]: %s", dataset, found.places[-1])

    @property
    def rows(self) -> list[int]:
        """Of every dataset, as many as were read."""
        return [found.rows for found in self._read]

    @property
    def kinds(self) -> list[Counter[Kind]]:
        """All bad rows of every dataset."""
        return [read.kinds + chosen.kinds for read, chosen in self._both()]

    @property
    def bad(self) -> int:
        return sum(kinds.total() for kinds in self.kinds)

    @property
    def places(self) -> list[str]:
        """The first places over all datasets, each with its dataset: files of two may have one name."""
        return [
            f"datasets[{index}]: {place}"
            for index, both in enumerate(self._both())
            for found in both
            for place in found.places
        ][:KEPT_PLACES]

    def judge(self) -> None:
        """Raises StageError(DatasetInvalid) over the datasets that have more bad rows than they may, of those
        that are looked at."""
        verdicts = [self._verdict(index) for index in range(len(self.datasets))]
        refused = [dataset for dataset, _ in verdicts if dataset]
        if not refused:
            return
        remedies = [*dict.fromkeys(remedy for _, remedies in verdicts for remedy in remedies)]
        hint = ", ".join(["Mend the rows named in the message", *remedies[:-1], f"or {remedies[-1]}."])
        raise StageError(Reason.DATASET_INVALID, describe(refused), hint)

    def none_left(self, purpose: str) -> StageError:
        """Of the chosen rows, of which some are bad. purpose: like `train on`."""
        refused = [
            self._refused(index, f", so no row is left to {purpose}")
            for index, found in enumerate(self._looked_at)
            if found.kinds
        ]
        hint = "Mend the rows named in the message, raise `training.cutoffLength`, or have more rows chosen."
        return StageError(Reason.DATASET_INVALID, describe(refused), hint)

    def _both(self) -> Iterator[tuple[Bad, Bad]]:
        return zip(self._read, self._chosen, strict=True)

    def _verdict(self, index: int) -> tuple[Refused | None, list[str]]:
        """What is wrong with a dataset, and what would help beside other rows; nothing, if it is good."""
        found, dataset = self._looked_at[index], self.datasets[index]
        bad, most = found.kinds.total(), dataset.max_bad_fraction
        none_left = self.kinds[index].total() == self.rows[index]
        if not bad:
            return None, []
        if dataset.on_bad_row == "fail":
            verdict, remedy = "", SKIP
        elif none_left:
            verdict, remedy = ", so none is left", LEAVE_OUT
        elif most is not None and bad > Fraction(most) * found.rows:
            verdict, remedy = f", more than datasets[{index}].maxBadFraction {most}", ALLOW_MORE
        else:
            return None, []
        cut = found.kinds.keys() & {Kind.CUT_OFF, Kind.PROMPT_CUT_OFF}
        remedies = [*([RAISE_CUTOFF] if cut else []), LEAVE_OUT if none_left else remedy]
        return self._refused(index, verdict), remedies

    def _refused(self, index: int, verdict: str) -> Refused:
        found = self._looked_at[index]
        bad, rows = found.kinds.total(), found.rows
        counts = ", ".join(f"{count} {kind}" for kind, count in found.kinds.most_common())
        which = "rows" if rows == self.rows[index] else "chosen rows"
        verdict = f"{bad} of {rows} {which} can't be learned from{verdict} ({counts})"
        return Refused(f"datasets[{index}]: {verdict}", bad, found.places)

"""What is wrong with rows: kinds, places, counts, and the verdict over every dataset."""

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

log = logging.getLogger("lorafinetune")

KEPT_PLACES: Final = 20
SHOWN_PLACES: Final = 5
MAX_SHOWN: Final = 300
"""Characters of one place: names come from outside."""
MAX_NAME: Final = 64
MAX_MESSAGE: Final = 2800
"""Bytes of a message: with the hint it must fit a termination message."""


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


def shown(name: str) -> str:
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


class Findings:
    """Counts the rows and the bad ones of every dataset, keeps the first places, and has them in the log."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = datasets
        self.rows = [0] * len(datasets)
        self.kinds: list[Counter[Kind]] = [Counter() for _ in datasets]
        self._places: list[list[str]] = [[] for _ in datasets]

    def count_rows(self, dataset: int, rows: int) -> None:
        """So many more were read."""
        self.rows[dataset] += rows

    def add(self, dataset: int, place: str, problem: RowError) -> None:
        """A row that was counted is bad."""
        self.kinds[dataset][problem.kind] += 1
        if len(self._places[dataset]) < KEPT_PLACES:
            self._places[dataset].append(f"{place}: {problem}"[:MAX_SHOWN])
            log.warning("bad row: datasets[%d]: %s", dataset, self._places[dataset][-1])

    @property
    def bad(self) -> int:
        return sum(kinds.total() for kinds in self.kinds)

    @property
    def places(self) -> list[str]:
        """The first places over all datasets."""
        return [place for places in self._places for place in places][:KEPT_PLACES]

    def judge(self) -> None:
        """Raises StageError(DatasetInvalid) over the datasets that have more bad rows than they may."""
        offending = [text for index in range(len(self.datasets)) for text in (self._verdict(index),) if text]
        if offending:
            raise StageError(Reason.DATASET_INVALID, _fitting("\n".join(offending)))

    def _verdict(self, index: int) -> str:
        bad, rows, dataset = self.kinds[index].total(), self.rows[index], self.datasets[index]
        if not bad:
            return ""
        if dataset.on_bad_row == "fail":
            return self._describe(index, "can't be learned from")
        if bad == rows:
            return self._describe(index, "can't be learned from, so none is left")
        if dataset.max_bad_fraction is not None and bad > float(dataset.max_bad_fraction) * rows:
            limit = f"more than datasets[{index}].maxBadFraction {dataset.max_bad_fraction}"
            return self._describe(index, f"can't be learned from, {limit}")
        return ""

    def _describe(self, index: int, verdict: str) -> str:
        kinds, places = self.kinds[index], self._places[index]
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        shown = "".join(f"\n  {place}" for place in places[:SHOWN_PLACES])
        left = kinds.total() - min(len(places), SHOWN_PLACES)
        more = f"\n  and {left} more" if left else ""
        rows = self.rows[index]
        return f"datasets[{index}]: {kinds.total()} of {rows} rows {verdict} ({counts}){shown}{more}"


def _fitting(text: str) -> str:
    """As many lines as fit a message."""
    lines = text.split("\n")
    sizes = itertools.accumulate(len(line.encode()) + 1 for line in lines)
    kept = sum(size <= MAX_MESSAGE for size in sizes)
    return "\n".join(lines[:kept] + (["  and more, in the log"] if kept < len(lines) else []))

"""Which rows are equal, among millions, in sixteen bytes a row.

Rows are compared by 64 bits of Python's own hash, which nobody can foresee, since it differs from process to
process: among ten million rows, the chance that two different ones pass for equal is below one in 100,000.
"""

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lorafinetune_stages.prepare.conversation import Packed, last_answer


@dataclass(frozen=True)
class Overlap:
    """Held-out rows that are trained on too. prompts: those of which the prompt is, equal rows included."""

    rows: int = 0
    prompts: int = 0


class Marks(NamedTuple):
    """What stays in memory of rows. rows, prompts: numbers by which equal ones are known; a prompt is all
    that is not an answer, but for the system prompt and tools. sizes: characters. answers: some of the last
    ones, more than one where they are not all equal."""

    rows: Sequence[int]
    prompts: Sequence[int]
    sizes: Sequence[int]
    answers: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Packed]) -> "Marks":
        first = last_answer(rows[0])
        other = next((answer for answer in map(last_answer, rows) if answer != first), first)
        return cls(
            array("q", [hash((*row[1:],)) for row in rows]),
            array("q", [hash((*row[4:-1:2],)) if len(row) > 5 else hash(row[4]) for row in rows]),
            array("I", [sum(map(len, row)) for row in rows]),
            frozenset((first, other)),
        )


@dataclass(frozen=True)
class Fingerprints:
    """One number for each row, in merge order, and one for its prompt, as Marks has them."""

    rows: "array[int]" = field(default_factory=lambda: array("q"))
    prompts: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, marks: Marks) -> None:
        self.rows.extend(marks.rows)
        self.prompts.extend(marks.prompts)

    def repeated(self) -> Sequence[int]:
        """Numbers of the rows that equal an earlier one, ascending."""
        import numpy as np  # here, below and there: rows are read and checked without it

        values = _values(self.rows)
        again = np.ones(len(values), dtype=bool)
        again[np.unique(values, return_index=True)[1]] = False
        numbers: list[int] = np.flatnonzero(again).tolist()
        return numbers

    def overlap(self, train: Sequence[int], held_out: Collection[int]) -> Overlap:
        """How many of the held-out rows are among those to train on. Both are numbers of rows."""
        if not held_out:
            return Overlap()
        import numpy as np

        here, there = np.fromiter(train, np.int64, len(train)), np.fromiter(held_out, np.int64)
        rows, prompts = (
            int(np.isin(values[there], values[here]).sum())
            for values in (_values(self.rows), _values(self.prompts))
        )
        return Overlap(rows, prompts)


def _values(numbers: "array[int]") -> Any:
    import numpy as np

    return np.frombuffer(numbers, dtype=np.int64) if numbers else np.empty(0, np.int64)

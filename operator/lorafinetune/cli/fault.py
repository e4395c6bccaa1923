"""One thing that is wrong with a file: a line for a person, and an object for a program.

Both are made of the same parts, so that neither knows more than the other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.problem import Problem
from lorafinetune.api.reasons import Reason
from lorafinetune.cli.errors import with_hint
from lorafinetune.contract.outcome import StageError

FIELD_ENDS: Final = ": "


@dataclass(frozen=True)
class Fault:
    """line, column: from 1; None where none is known. field: empty for the file itself.

    reason: told to a person where the operator's checks found it. is_aside: whether the hint is no sentence.
    """

    file: Path
    message: str
    hint: str = ""
    line: int | None = None
    column: int | None = None
    field: str = ""
    reason: Reason | None = None
    is_aside: bool = False

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return ": ".join(part for part in (place, self.reason, self.field, self._advice) if part)

    @property
    def told(self) -> dict[str, Any]:
        """As JSON: what nothing is known of is null or empty."""
        return {
            "file": str(self.file),
            "line": self.line,
            "column": self.column,
            "field": self.field,
            "reason": (self.reason or Reason.CONFIG_INVALID).value,
            "message": self.message,
            "hint": self.hint,
        }

    @property
    def _advice(self) -> str:
        if not self.hint:
            return self.message
        return f"{self.message} ({self.hint})" if self.is_aside else with_hint(self.message, self.hint)


def of_problem(file: Path, line: int, problem: Problem) -> Fault:
    """What the resource's definition refuses."""
    return Fault(file, problem.message, problem.hint, line, field=problem.where, is_aside=True)


def field_of(error: StageError) -> str:
    """The field with which the message of a check begins."""
    return error.message.partition(FIELD_ENDS)[0]


def of_check(file: Path, line: int, error: StageError) -> Fault:
    """What the operator's checks refuse."""
    field, _, message = error.message.partition(FIELD_ENDS)
    return Fault(file, message, error.hint, line, field=field, reason=error.reason)

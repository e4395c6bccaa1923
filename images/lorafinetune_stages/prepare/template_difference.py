"""What is said where a template writes another text than the model's own chat template.

A run that finds the difference and one that finds it in the store say the same.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

SHOWN_AROUND: Final = 40
MAX_SHOWN: Final = 600
MAX_SHOWN_BYTES: Final = 1000
"""A termination message holds both texts, in which a character of Chinese has three bytes."""
MAX_PLACE: Final = 200
HINT: Final = (
    "Set `spec.model.template` to the template that fits; a template that is set is only warned about."
)


class Difference(BaseModel):
    """One conversation as both write it. own: by the model's template. row: its place in the data; empty for
    one that prepare has made up."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    own: str = Field(alias="model")
    ours: str = Field(alias="template")
    row: str = ""

    def encode(self) -> dict[str, str]:
        """The difference as the data report has it."""
        return self.model_dump(by_alias=True, exclude_defaults=True)

    @property
    def around(self) -> str:
        """Where the texts part."""
        start, end = max(self._parting - SHOWN_AROUND, 0), self._parting + SHOWN_AROUND
        return f"{self.ours[start:end]!r} in place of {self.own[start:end]!r}"

    @property
    def at(self) -> str:
        """Which row it is, as the end of a phrase."""
        return f" at {self.row[:MAX_PLACE]}" if self.row else ""

    def both(self, name: str) -> str:
        """As much of both as can be shown. name: the template's."""
        return f"  the model's own template: {self._shown(self.own)!r}\n  {name}: {self._shown(self.ours)!r}"

    @property
    def _parting(self) -> int:
        pairs = enumerate(zip(self.own, self.ours, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(self.own), len(self.ours)))

    def _shown(self, text: str) -> str:
        start = max(self._parting - MAX_SHOWN // 2, 0)
        return text[start : start + MAX_SHOWN].encode()[:MAX_SHOWN_BYTES].decode(errors="ignore")


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore")

    differences: Difference = Field(alias="templateDifferences")


def find_difference(report: bytes) -> Difference | None:
    """What a data report has of it. Another version may have written it, or a stranger."""
    try:
        return _Report.model_validate_json(report).differences
    except ValidationError:
        return None


def mismatch(name: str, difference: Difference) -> StageError:
    """The refusal of a template that was inferred."""
    return StageError(
        Reason.TEMPLATE_MISMATCH,
        f"model.template: {name} was inferred, but does not fit the model{difference.at}: "
        f"{difference.around}\n{difference.both(name)}",
        HINT,
    )


def unseen_mismatch(name: str) -> StageError:
    """The same where nothing is left of the texts."""
    return StageError(
        Reason.TEMPLATE_MISMATCH,
        f"model.template: {name} was inferred, but renders conversations otherwise "
        "than the model's own chat template",
        HINT,
    )

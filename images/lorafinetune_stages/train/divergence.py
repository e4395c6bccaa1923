"""Whether a training has diverged: its loss is not a number, or stays so high that no training recovers.

A spike passes. What does not pass is recognised as MosaicML's LLM Foundry does it (`KillLossSpike`): by step
after step with a loss above 10, which is that of a model that guesses evenly among 22,000 words. Here each of
the last steps must be above 10 and above three times the first, which is the base's own loss. No training
that learns looks like that, whatever its rows are.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.history import Row

HIGH: Final = 10.0
FACTOR: Final = 3.0
PATIENCE: Final = 10
"""Steps one after another."""


class Divergence:
    """Watches the losses of the optimizer steps. log: of those so far, as the trainer keeps it."""

    def __init__(self, log: Iterable[Row]) -> None:
        self._first: float | None = None
        self._high = 0
        for row in log:
            if "loss" in row:
                self._add(row["loss"])

    @property
    def is_suspected(self) -> bool:
        """Whether the last step's loss was too high: what is saved now may be of no use."""
        return self._high > 0

    def check(self, loss: float, state: Any) -> None:
        """Takes the loss of one more step. Raises StageError(LossDiverged). state: the trainer's."""
        check_finite(loss, "the loss", state)
        self._add(loss)
        if self._high >= PATIENCE:
            raise StageError(
                Reason.LOSS_DIVERGED,
                f"the loss is {loss:.3g} at step {state.global_step} of {state.max_steps}, and was above "
                f"{self._limit:.3g} in {self._high} steps one after another; it began at {self._first:.3g}",
            )

    def _add(self, loss: float) -> None:
        if self._first is None:
            self._first = loss
        self._high = self._high + 1 if loss > self._limit else 0

    @property
    def _limit(self) -> float:
        return max(HIGH, FACTOR * (self._first or 0))


def check_finite(loss: float, what: str, state: Any) -> None:
    """Raises StageError(LossDiverged). what: it is the loss of. state: the trainer's."""
    if not math.isfinite(loss):
        raise StageError(
            Reason.LOSS_DIVERGED, f"{what} is {loss} at step {state.global_step} of {state.max_steps}"
        )

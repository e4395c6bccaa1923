"""The log of a training: one row for every optimizer step, one for every evaluation.

The trainer keeps the rows in its own state and so in every checkpoint: when a training goes on from
one, the log goes on without a gap and without a double row.
"""

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from lorafinetune.api.status import LossPoint, TrainingStatus

Row = dict[str, Any]
MAX_POINTS: Final = 32
KEPT: Final = (
    "step",
    "epoch",
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/accuracies",
    "rewards/margins",
)
"""By the trainer's own names; the last ones are of pairs."""


def step_row(logged: Mapping[str, Any], tokens_per_second: int) -> Row:
    """One optimizer step, from what the trainer logged; what is no number is left out."""
    row = {name: logged[name] for name in KEPT if name in logged and math.isfinite(logged[name])}
    return row | {"tokens": logged.get("num_input_tokens_seen", 0), "tokens_per_second": tokens_per_second}


def evaluation_row(step: int, epoch: float, measured: Mapping[str, float]) -> Row:
    """measured: the loss as `eval_loss`, and what else there is."""
    return {"step": step, "epoch": epoch, **measured}


def is_of_base(row: Row) -> bool:
    """Whether it is the evaluation of a model that has not learned anything yet."""
    return row["step"] == 0 and "eval_loss" in row


def decimal(value: float) -> str:
    """A number as the API writes it: six digits that count, and none after the twelfth place."""
    return f"{round(value, 12):.6g}".replace("e+", "e")


class History:
    """The rows to show: one for `every` optimizer steps with their mean loss, and all evaluations. select: of
    which evaluation the adapter is exported."""

    def __init__(self, log: Iterable[Row], every: int, select: Literal["last", "best"] = "last") -> None:
        self.rows: list[Row] = []
        self.evaluations: list[Row] = []
        """Those that can be compared with each other."""
        self.best: Row | None = None
        """With `select: best`: the first one of those with the lowest loss."""
        self.base: Row | None = None
        """The evaluation of the base."""
        self.exported: Row | None = None
        """That of what is exported, where it was measured apart."""
        self._every = every
        self._select = select
        self._pending: list[Row] = []
        self._points: deque[LossPoint] = deque(maxlen=MAX_POINTS)
        for row in log:
            self.add(row)

    def add(self, row: Row) -> None:
        """A row of the trainer's log; its closing summary is none of the curve."""
        if "eval_loss" in row:
            if is_of_base(row):
                self.base = row
            else:
                self._compare(row)
            self.rows.append(row)
        elif "loss" in row:
            self._pending.append(row)
            if row["step"] % self._every == 0:
                self.close()

    def _compare(self, row: Row) -> None:
        self.evaluations.append(row)
        if self._select == "best" and (self.best is None or row["eval_loss"] < self.best["eval_loss"]):
            self.best = row

    def add_exported(self, loss: float) -> None:
        """The evaluation of what is exported, measured apart, in another way than those that are compared."""
        self.exported = {**(self.best or self.evaluations[-1]), "eval_loss": loss, "exported": True}
        self.rows.append(self.exported)

    def close(self) -> None:
        """Makes a row of the steps since the last one."""
        if self._pending:
            loss = sum(row["loss"] for row in self._pending) / len(self._pending)
            self.rows.append(self._pending[-1] | {"loss": loss})
            self._points.append(LossPoint(step=self._pending[-1]["step"], loss=decimal(loss)))
            self._pending.clear()

    @property
    def evaluated(self) -> Row | None:
        """The last evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    def status(
        self, step: int, total_steps: int, epoch: float, tokens_per_second: int, stopped_early: bool = False
    ) -> TrainingStatus:
        """The numbers of the training after `step` optimizer steps of `total_steps`."""
        return TrainingStatus(
            step=step,
            total_steps=total_steps,
            stopped_early=stopped_early or None,
            epoch=decimal(epoch),
            loss=self._points[-1].loss if self._points else None,
            eval_loss=self._loss_of(self.evaluated),
            base_eval_loss=decimal(self.base["eval_loss"]) if self.base else None,
            best_step=self.best["step"] if self.best else None,
            best_eval_loss=self._loss_of(self.best),
            tokens_per_second=tokens_per_second or None,
            recent=tuple(self._points),
        )

    def _loss_of(self, evaluated: Row | None) -> str | None:
        """As it was measured of what is exported, where that is of the same step."""
        if evaluated and self.exported and self.exported["step"] == evaluated["step"]:
            evaluated = self.exported
        return decimal(evaluated["eval_loss"]) if evaluated else None

    def to_json_lines(self) -> str:
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows)

"""The loss of the base and of the tuned model on each held-out row of a training, and the answers of both to
some of the rows."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from datasets import load_from_disk
from pydantic import TypeAdapter

from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.training import Training
from lorafinetune.contract.answers import Answers
from lorafinetune.contract.keys import resolved_dpo
from lorafinetune.contract.rowlosses import Compared, RowLosses
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.train.base_loss import BaseLoss
from lorafinetune_stages.train.evaluation import evaluate_base, evaluate_held_out, shipped_base
from lorafinetune_stages.train.generation import answers
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.preferences import evaluate_pairs, of_base
from lorafinetune_stages.train.process_group import ALONE, ProcessGroup
from lorafinetune_stages.train.stop_signal import StopSignal
from lorafinetune_stages.train.watchdog import Watchdog
from lorafinetune_stages.train.wire_format import WIRE_FORMAT

ON_THE_WAY: Final = "passes of an evaluation"
AS_SHIPPED: Final = "passes of an evaluation of what is shipped"
"""Each of which may read the whole base from the disk."""
WORDS: Final = "words of the answers"

OF_BASE: Final[TypeAdapter[RowLosses | None]] = TypeAdapter(RowLosses | None, config=WIRE_FORMAT)


class HeldOutEvaluation:
    """Evaluates on the rows in a directory, if that is there. base_loss: on the rank that leads."""

    def __init__(
        self,
        training: Training,
        held_out: Path,
        plan: TrainingPlan,
        base_loss: BaseLoss | None,
        meter: Meter,
        stop: StopSignal,
        progress: Reporter,
        group: ProcessGroup,
        watchdog: Watchdog,
    ) -> None:
        self.of_result: RowLosses | None = None
        """Of the evaluation that what is exported was measured by, once that is known."""
        self.answers: Answers | None = None
        """Of the base and of what is exported, on the rank that leads, once they were asked."""
        self.evaluation: Evaluation | None = training.evaluation if held_out.is_dir() else None
        """None where there is nothing to evaluate on: rows that vanish later are a failure."""
        self._of_base: RowLosses | None = None
        self._training = training
        self._held_out = held_out
        self._plan = plan
        self._base_loss = base_loss
        self._meter = meter
        self._stop = stop
        self._progress = progress
        self._group = group
        self._watchdog = watchdog

    @property
    def compared(self) -> Compared | None:
        """The base and what is exported, row by row, on the rank that leads; None where one was not
        evaluated, or what was measured of the base is not in the store any more."""
        base = self._of_base or (self._base_loss.find() if self._base_loss and self.of_result else None)
        return Compared.of(base, self.of_result) if base and self.of_result else None

    def base(self, model: Any) -> dict[str, float]:
        """Nothing where it is cut short."""
        if resolved_dpo(self._training):
            return of_base(1).measured
        self._of_base = self._find_base(model)
        return {"eval_loss": self._of_base.loss} if self._of_base else {}

    def _find_base(self, model: Any) -> RowLosses | None:
        """From the store, or else measured, and then kept there."""
        found = self._group.broadcast(self._base_loss.find() if self._base_loss else None, OF_BASE)
        if found is not None:
            return found
        self._progress.begin("evaluating the base", None, "steps")
        rows = load_from_disk(str(self._held_out))
        with self._meter.evaluating(), self._passes(AS_SHIPPED) as stopped:
            losses = evaluate_base(model, rows, stopped, self._plan, self._group)
        if self._base_loss and losses and math.isfinite(losses.loss):
            self._base_loss.keep(losses)
        return losses

    def tuned(self, model: Any, as_shipped: bool) -> dict[str, float]:
        """Nothing where it is cut short. as_shipped: on the base that the adapter is for."""
        rows = load_from_disk(str(self._held_out))
        with self._meter.evaluating(), self._passes(AS_SHIPPED if as_shipped else ON_THE_WAY) as stopped:
            if dpo := resolved_dpo(self._training):
                with shipped_base(model, self._plan, as_shipped):
                    found = evaluate_pairs(model, rows, stopped, float(dpo.beta))
                self.of_result = found.losses if found else None
                self._of_base = of_base(found.losses.rows).losses if found else None
                return found.measured if found else {}
            self.of_result = evaluate_held_out(model, rows, stopped, self._plan, self._group, as_shipped)
        return {"eval_loss": self.of_result.loss} if self.of_result else {}

    def ask(self, model: Any, tokenizer: Any) -> None:
        """Has the base and the tuned model answer, on the rank that leads: no other needs to know, and none
        helps unless the base is split over them. A request to stop ends it."""
        split = self._plan.shards > 1
        if not (split or self._group.is_main):
            return
        self._progress.begin("answering held-out prompts", None, "answers")
        rows = load_from_disk(str(self._held_out))
        group = self._group if split else ALONE
        with self._passes(WORDS) as stopped:
            told = answers(model, tokenizer, rows, self._training, self._plan, stopped, group)
        self.answers = told if self._group.is_main else None

    @contextmanager
    def _passes(self, kind: str) -> Iterator[Callable[[], bool]]:
        """What is given is asked before each pass whether a stop is requested. The rank that leads is
        watched: it stalls with any of them."""
        with self._watchdog.passes(kind) as begins:

            def stopped() -> bool:
                if self._group.is_main:
                    begins()
                return self._stop.requested

            yield stopped

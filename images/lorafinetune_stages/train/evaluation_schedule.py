"""When the held-out rows of a training are evaluated, and what follows from it: which adapter is exported,
and whether the training ends."""

from collections.abc import Callable
from typing import Any

from lorafinetune.api.training import Training
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.train.best_adapter import BestAdapter
from lorafinetune_stages.train.divergence import check_finite
from lorafinetune_stages.train.early_stopping import is_exhausted
from lorafinetune_stages.train.evaluation import is_quantised
from lorafinetune_stages.train.held_out_evaluation import HeldOutEvaluation
from lorafinetune_stages.train.history import History, evaluation_row, is_of_base
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.process_group import ProcessGroup


class EvaluationSchedule:
    """best_adapter: on the rank that leads. state: the trainer's own, with the log that history shows."""

    def __init__(
        self,
        training: Training,
        plan: TrainingPlan,
        held_out: HeldOutEvaluation,
        best_adapter: BestAdapter | None,
        progress: Reporter,
        group: ProcessGroup,
    ) -> None:
        self.stopped_early = False
        self._training = training
        self._plan = plan
        self._held_out = held_out
        self._best_adapter = best_adapter
        self._progress = progress
        self._group = group

    def evaluate_base(self, model: Any, state: Any) -> None:
        """Puts what the base makes of the held-out rows before all other rows of the log. There is nothing to
        save yet, so a request to stop ends it."""
        if not self._held_out.evaluation or any(is_of_base(row) for row in state.log_history):
            return
        if measured := self._held_out.base(model):
            check_finite(measured["eval_loss"], "the base's loss on the held-out rows", state)
            state.log_history.insert(0, evaluation_row(0, 0.0, measured))

    def begin(self, history: History, state: Any) -> None:
        """history: of the steps and evaluations before."""
        self._history = history
        self.stopped_early = self._ends_early(state)

    def is_last(self, state: Any) -> bool:
        return self.stopped_early or bool(state.global_step >= state.max_steps)

    def evaluate(self, model: Any, state: Any, report: Callable[[Any], None]) -> None:
        """Where it is due; one that is cut short is made up for after the resume."""
        if not self._is_due(state):
            return
        if measured := self._measure(model, state):
            check_finite(measured["eval_loss"], "the loss on the held-out rows", state)
            row = evaluation_row(state.global_step, state.epoch, measured)
            state.log_history.append(row)
            self._history.add(row)
            report(state)
            self._judge(model, state)

    def take_result(self, model: Any, state: Any) -> None:
        """After the last evaluation: gives the model the adapter that is exported."""
        if self._held_out.of_result is None:  # a checkpoint has the loss, but not that of each row
            self._measure(model, state)
        if self._history.best:
            self._take_best(model)

    def evaluate_exported(self, model: Any, state: Any, report: Callable[[Any], None]) -> None:
        """On the base that the adapter is shipped for, as the base was, where evaluations on the way are on
        another. It is not in the trainer's own log, which has room for one evaluation of a step."""
        if not (self._compares and is_quantised(self._plan)):
            return
        self._progress.begin("evaluating on the unquantised base", None, "steps")
        if measured := self._held_out.tuned(model, as_shipped=True):
            what = "the loss on the held-out rows, on the unquantised base"
            check_finite(measured["eval_loss"], what, state)
            self._history.add_exported(measured["eval_loss"])
            report(state)

    def _is_due(self, state: Any) -> bool:
        evaluation, step = self._held_out.evaluation, state.global_step
        if evaluation is None:
            return False
        done = self._history.evaluated is not None and self._history.evaluated["step"] == step
        return not done and (step % evaluation.every_steps == 0 or step >= state.max_steps)

    def _measure(self, model: Any, state: Any) -> dict[str, float]:
        """Nothing where it is cut short."""
        return self._held_out.tuned(model, as_shipped=self.is_last(state) and not self._compares)

    def _judge(self, model: Any, state: Any) -> None:
        """What follows from an evaluation: it may be the best, and it may be the last."""
        losses = self._held_out.of_result
        if self._best_adapter and losses and self._history.best is self._history.evaluated:
            self._best_adapter.keep(state.global_step, model.save_pretrained, losses)
        self.stopped_early = self._ends_early(state)

    def _take_best(self, model: Any) -> None:
        """On all ranks."""
        if self._best_adapter:
            self._best_adapter.wait()
            self._held_out.of_result = self._best_adapter.losses
            model.load_adapter(self._best_adapter.directory, model.active_adapter, is_trainable=True)
        self._group.broadcast_parameters([each for each in model.parameters() if each.requires_grad])

    def _ends_early(self, state: Any) -> bool:
        return self._group.any(self._is_exhausted) and state.global_step < state.max_steps

    @property
    def _is_exhausted(self) -> bool:
        rule = self._training.checkpoint.early_stopping
        return rule is not None and is_exhausted(rule, [r["eval_loss"] for r in self._history.evaluations])

    @property
    def _compares(self) -> bool:
        """Whether evaluations are held against each other, and so are all on the base that is trained on."""
        checkpoint = self._training.checkpoint
        return checkpoint.select == "best" or checkpoint.early_stopping is not None

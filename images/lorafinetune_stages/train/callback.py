"""What we do at each step of LLaMA-Factory's training: log, evaluate, report, save, leave."""

from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import torch
from pydantic import TypeAdapter
from transformers import TrainerCallback

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import GpuSeconds, TrainingStatus
from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.output import HELD_OUT
from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.termination import abandon
from lorafinetune_stages.train.base_loss import BaseLoss
from lorafinetune_stages.train.checkpoints import (
    RANDOM,
    Checkpoints,
    FetchedCheckpoint,
    add_random_states,
)
from lorafinetune_stages.train.divergence import Divergence
from lorafinetune_stages.train.early_stopping import Ended
from lorafinetune_stages.train.evaluation_schedule import EvaluationSchedule
from lorafinetune_stages.train.held_out_evaluation import HeldOutEvaluation
from lorafinetune_stages.train.history import History, step_row
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.nf4 import settle
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.process_group import ProcessGroup
from lorafinetune_stages.train.save_schedule import SaveSchedule
from lorafinetune_stages.train.states import State
from lorafinetune_stages.train.stop_signal import StopSignal
from lorafinetune_stages.train.targets import check_targets
from lorafinetune_stages.train.watchdog import Watchdog
from lorafinetune_stages.train.wire_format import WIRE_FORMAT

RANDOM_STATE: Final[TypeAdapter[bytes]] = TypeAdapter(bytes, config=WIRE_FORMAT)


class TrainingCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """One training, watched from its first step to its last.

    The trainer calls, in this order: a step's begin, its end, its log, and its save where one is asked
    for; so a checkpoint holds the step's own row and evaluation. What is evaluated after the last step comes
    after its checkpoint, and begins from there alone: no step is trained twice for it.
    """

    def __init__(
        self,
        arguments: TrainArguments,
        dataset: Path,
        plan: TrainingPlan,
        checkpoints: Checkpoints | None,
        base_loss: BaseLoss | None,
        resumed: FetchedCheckpoint | None,
        meter: Meter,
        stop: StopSignal,
        progress: Reporter,
        group: ProcessGroup,
    ) -> None:
        self.resumes = 1 + int(resumed.notes.get("resumes", 0)) if resumed else 0
        self.steps = 0
        """Optimizer steps that are done."""
        self.watchdog = Watchdog(arguments.gpus, self._abandon)
        self._save_schedule = SaveSchedule(arguments.training.checkpoint.every)
        self._training = arguments.training
        self._every = int(arguments.config.get("logging_steps", 1))
        self._plan = plan
        self._checkpoints = checkpoints
        self._resumed = resumed
        self._meter = meter
        self._stop = stop
        self._progress = progress
        self._group = group
        self.held_out_evaluation = HeldOutEvaluation(
            self._training, dataset / HELD_OUT, plan, base_loss, meter, stop, progress, group, self.watchdog
        )
        best_adapter = checkpoints.best_adapter if checkpoints else None
        self._evaluations = EvaluationSchedule(
            self._training, plan, self.held_out_evaluation, best_adapter, progress, group
        )

    @property
    def stopped_early(self) -> bool:
        return self._evaluations.stopped_early

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **_: Any
    ) -> None:
        self._tokenizer = processing_class
        check_targets(model, self._training.lora.targets)
        if self._plan.nf4:
            settle(model.get_base_model())
        self._evaluations.evaluate_base(model, state)
        self._stop.defer()
        self._join(model)
        self.history = History(state.log_history, self._every, self._training.checkpoint.select)
        self._divergence = Divergence(state.log_history)
        self._save_schedule.note()
        self._progress.begin("training", state.max_steps, "steps", done=state.global_step)
        self._evaluations.begin(self.history, state)
        if self._resumed:
            self._tell_saved(self._resumed.cost, self._resumed.state)
            self._progress.update(resumed_from=self._resumed.step, resumes=self.resumes)
            self._evaluations.evaluate(model, state, self._report)
            if self._evaluations.is_last(state):
                self._conclude(args, model, state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._meter.step_begins(state.num_input_tokens_seen)
        if self._group.is_main:  # which stalls with any of them, and does not wait for one that saves
            self.watchdog.step_begins(state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps = state.global_step
        if self._checkpoints:
            self._checkpoints.uploads.check()
        due = self._save_schedule.is_due_after(state.global_step, state.epoch)
        control.should_save = due and state.global_step < state.max_steps

    def on_log(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        row = state.log_history[-1]
        if "loss" not in row:
            return
        # A device has ended the step where its loss is known.
        self._meter.step_ends(state.num_input_tokens_seen)
        self.watchdog.step_ends()
        self._divergence.check(row["loss"], state)
        state.log_history[-1] = step_row(row, self._meter.tokens_per_second)
        self.history.add(state.log_history[-1])
        self._report(state)
        if state.global_step < state.max_steps:
            self._evaluations.evaluate(model, state, self._report)
        control.should_save &= not self._divergence.is_suspected
        control.should_save |= self._group.any(self._must_save(state))

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        step = state.global_step
        self._save_schedule.note()
        cost = self._meter.gpu_seconds()
        notes = {"step": step, "resumes": self.resumes, "gpuSeconds": cost.encode()}
        notes |= {"best": self.history.best["step"]} if self.history.best else {}
        directory = Path(args.output_dir) / f"checkpoint-{step}"
        states = self._group.gather((directory / RANDOM).read_bytes(), RANDOM_STATE)
        if self._checkpoints:
            add_random_states(directory, states)
            rotates = not self._divergence.is_suspected
            self._checkpoints.save(directory, step, notes, rotates, partial(self._tell_saved, cost))
        self._leave_if_asked(state)
        if self._evaluations.is_last(state):
            self._evaluations.evaluate(model, state, self._report)
            self._conclude(args, model, state)

    def _tell_saved(self, cost: GpuSeconds, state: State) -> None:
        self._progress.update(checkpoint_step=state.step, checkpoint_attempt=state.attempt, gpu_seconds=cost)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end(state)

    def _abandon(self, error: StageError) -> NoReturn:
        abandon(self._checkpoints.last.annotate(error) if self._checkpoints else error)

    def _end(self, state: Any) -> None:
        self.steps = state.global_step
        self.history.close()
        self.status = self._status(state)

    def _join(self, model: Any) -> None:
        """All ranks begin with one adapter, and each drops other numbers. A resume brings its own state."""
        self._group.broadcast_parameters([each for each in model.parameters() if each.requires_grad])
        if not self._group.is_main:
            torch.manual_seed(self._training.seed + self._group.rank)

    def _leave_if_asked(self, state: Any) -> None:
        """Where there is a checkpoint of this step."""
        if self._group.any(self._stop.requested):
            if self._checkpoints:
                self._checkpoints.uploads.wait()
            self._group.barrier()  # who leaves before the others has failed them
            told = f"saved a checkpoint at step {state.global_step} of {state.max_steps}"
            raise StageError(Reason.PREEMPTED, told)

    def _must_save(self, state: Any) -> bool:
        """Not after the last step where nothing is evaluated: the result is as near as a checkpoint."""
        if self._evaluations.is_last(state):
            return self.held_out_evaluation.evaluation is not None
        return self._stop.requested or self._is_time

    @property
    def _is_time(self) -> bool:
        """By one clock, where there are several."""
        is_due = self._group.is_main and self._save_schedule.is_due_by_now
        return is_due and not self._divergence.is_suspected

    def _conclude(self, args: Any, model: Any, state: Any) -> None:
        """What follows the last evaluation. Here ends the training, with no other step."""
        self.steps = state.global_step
        self._leave_if_asked(state)
        self._evaluations.take_result(model, state)
        self._evaluations.evaluate_exported(model, state, self._report)
        self._leave_if_asked(state)
        self.held_out_evaluation.ask(model, self._tokenizer)
        self._leave_if_asked(state)
        if self._group.is_main:
            model.save_pretrained(args.output_dir)
        self._report(state)
        self._end(state)
        raise Ended

    def _report(self, state: Any) -> None:
        self._progress.update(done=state.global_step, training=self._status(state))

    def _status(self, state: Any) -> TrainingStatus:
        return self.history.status(
            state.global_step, state.max_steps, state.epoch, self._meter.tokens_per_second, self.stopped_early
        )

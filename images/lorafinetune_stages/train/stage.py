"""The train stage from its arguments to its manifest."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import GpuSeconds
from lorafinetune.contract.arguments import ADAPTER, METRICS, TrainArguments, place
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.base import forbid_hubs
from lorafinetune_stages.prepare.output import find_trained
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.train import config, device
from lorafinetune_stages.train.adapter import write_adapter
from lorafinetune_stages.train.card import adapter_card
from lorafinetune_stages.train.checkpoints import Checkpoint, Checkpoints
from lorafinetune_stages.train.fence import Fence
from lorafinetune_stages.train.fit import smaller
from lorafinetune_stages.train.inputs import Inputs, fetch_inputs, find_inputs
from lorafinetune_stages.train.lineage import lineage
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.output import commit_trained
from lorafinetune_stages.train.plan import Plan
from lorafinetune_stages.train.plot import draw_loss
from lorafinetune_stages.train.stopping import Stop

if TYPE_CHECKING:
    from lorafinetune_stages.train.callback import Watch

log = logging.getLogger(__name__)


def run(arguments: TrainArguments, context: Context) -> TrainResult:
    """Trains, or finds the training in the store.

    Raises StageError(Preempted) after a checkpoint where it is asked to stop, and StageError for
    whatever a person can mend.
    """
    if found := find_trained(arguments.key, context.store):
        return found.model_copy(update={"cache_hit": True})
    meter = Meter(arguments.gpus)
    with Stop() as stop:
        inputs = find_inputs(arguments, context)
        forbid_hubs()
        os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARNING")
        device.claim(arguments)
        launch = _fetch_and_import(arguments, context, inputs, stop)
        return Attempt(arguments, context, inputs, launch, stop, meter).run()


def _fetch_and_import(arguments: TrainArguments, context: Context, inputs: Inputs, stop: Stop) -> Any:
    """Downloads the inputs while LLaMA-Factory is imported, which takes ten seconds and more.

    Returns the module with everything heavy.
    """
    context.progress.begin("downloading the model and the dataset", inputs.bytes, "bytes")

    def advance(count: int) -> None:
        stop.check_before_first_step()
        context.progress.advance(count)

    with ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(fetch_inputs, arguments, context, inputs, advance)
        launch = import_module("lorafinetune_stages.train.launch")
        fetched.result()
    return launch


@dataclass(frozen=True)
class Attempt:
    """One attempt at one training, with its inputs on the disk. launch: the module of that name.
    plan: chosen by the device unless given."""

    arguments: TrainArguments
    context: Context
    inputs: Inputs
    launch: Any
    stop: Stop
    meter: Meter
    plan: Plan | None = None

    def run(self) -> TrainResult:
        portable = config.portable(self.arguments.config, self.inputs.facts.template)
        resumed = self._newest()
        self.meter.before = _cost_so_far(resumed)
        plan, watch = self._train_within_memory(portable, resumed)
        hardware = device.hardware(self.arguments.gpus)
        facts = lineage(self.arguments, self.inputs, portable, plan, hardware, watch.resumes)
        return self._finish(portable, {**facts, "attempt": self.fence.number}, watch)

    def _train_within_memory(
        self, portable: dict[str, Any], resumed: Checkpoint | None
    ) -> "tuple[Plan, Watch]":
        """Where the GPU's memory does not do, once more with less of a step in one pass."""
        plan = self.plan or self._plan()
        try:
            return plan, self._train(portable, plan, resumed)
        except StageError as problem:
            less = smaller(plan.fit) if problem.reason is Reason.CUDA_OUT_OF_MEMORY else None
            if less is None:
                raise
            log.warning("%s; once more with less in one pass: %s", problem.message, less)
        plan = replace(plan, fit=less)
        self.launch.free_memory()  # here, where the problem's frames no longer hold it
        return plan, self._train(portable, plan, self._newest())

    def _plan(self) -> Plan:
        free = device.free_bytes(self.arguments.gpus)
        longest = self.inputs.facts.longest or (self.arguments.training.cutoff_length,)
        plan: Plan = self.launch.make_plan(self.arguments, self.inputs.model_directory, longest, free)
        return plan

    def _train(self, portable: dict[str, Any], plan: Plan, resumed: Checkpoint | None) -> "Watch":
        arguments, inputs = self.arguments, self.inputs
        watch: Watch = self.launch.Watch(
            arguments,
            inputs.dataset_directory,
            plan,
            self._checkpoints(),
            resumed,
            self.meter,
            self.stop,
            self.context.progress,
        )
        local = config.local(
            portable,
            plan,
            arguments.gpus,
            inputs.model_directory,
            inputs.dataset_directory,
            self.context.workdir / "output",
            resumed.directory if resumed else None,
        )
        self.context.progress.begin("loading the model", None, "steps")
        self.launch.train(local, plan, watch, self.stop)
        return watch

    @cached_property
    def fence(self) -> Fence:
        return Fence(self.context.store, place("trainings", self.arguments.key))

    def _newest(self) -> Checkpoint | None:
        return self._checkpoints().newest(self.context.workdir / "resume")

    def _checkpoints(self) -> Checkpoints:
        arguments = self.arguments
        where, keep = place("trainings", arguments.key), arguments.training.checkpoint.keep
        return Checkpoints(self.context.store, where, arguments.key, arguments.model, keep, self.fence)

    def _finish(self, portable: dict[str, Any], facts: dict[str, Any], watch: "Watch") -> TrainResult:
        arguments, kept = self.arguments, self.context.workdir / "kept"
        dataset = self.inputs.facts.dataset
        card = adapter_card(arguments.model, dataset, portable, arguments.training)
        trained = self.context.workdir / "output"
        write_adapter(trained, kept / ADAPTER, arguments.model, portable, card)
        (kept / METRICS).write_text(watch.history.to_json_lines())
        unit = "pair" if arguments.training.objective == "dpo" else "learned token"
        draw_loss(watch.history.rows, kept / "loss.png", unit)
        self.fence.check()
        cost = self.meter.gpu_seconds()
        return commit_trained(self.context, arguments.key, kept, facts, watch.status, cost, watch.resumes)


def _cost_so_far(resumed: Checkpoint | None) -> GpuSeconds:
    return GpuSeconds.decode(resumed.notes.get("gpuSeconds", {})) if resumed else GpuSeconds()

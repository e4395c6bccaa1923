"""The train stage from its arguments to its manifest."""

import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import GpuSeconds
from lorafinetune.contract.arguments import (
    ADAPTER,
    ANSWERS,
    CHECKPOINTS,
    COMPARED,
    METRICS,
    TrainArguments,
    place,
)
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.base import forbid_hubs
from lorafinetune_stages.imports import sharing, uncollected
from lorafinetune_stages.prepare.output import find_trained
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.termination import explain
from lorafinetune_stages.train import config, device
from lorafinetune_stages.train.adapter import write_adapter
from lorafinetune_stages.train.base_loss import BaseLoss
from lorafinetune_stages.train.best_adapter import FILES, BestAdapter
from lorafinetune_stages.train.card import adapter_card
from lorafinetune_stages.train.checkpoints import Checkpoints, FetchedCheckpoint, is_kept
from lorafinetune_stages.train.distributed import train_distributed
from lorafinetune_stages.train.fence import Fence
from lorafinetune_stages.train.fit import smaller
from lorafinetune_stages.train.inputs import TrainInputs, fetch, find_inputs, readable
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.lineage import lineage
from lorafinetune_stages.train.meter import Meter
from lorafinetune_stages.train.nodes import Node
from lorafinetune_stages.train.output import commit_trained
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.plot import draw_loss
from lorafinetune_stages.train.rank_spec import RankSpec
from lorafinetune_stages.train.state_store import StateReader, StateWriter
from lorafinetune_stages.train.stop_signal import StopSignal
from lorafinetune_stages.train.uploads import Uploads
from lorafinetune_stages.train.wire_format import WIRE_FORMAT

if TYPE_CHECKING:
    from lorafinetune_stages.train.callback import TrainingCallback
    from lorafinetune_stages.train.process_group import ProcessGroup

log = logging.getLogger(__name__)

LAUNCH: Final = "lorafinetune_stages.train.launch"
"""The module with everything heavy."""
RESULT: Final[TypeAdapter[TrainResult | None]] = TypeAdapter(TrainResult | None, config=WIRE_FORMAT)
RESUMED: Final[TypeAdapter[FetchedCheckpoint | None]] = TypeAdapter(
    FetchedCheckpoint | None, config=WIRE_FORMAT
)


def run(arguments: TrainArguments, context: Context) -> TrainResult:
    """Trains, or finds the training in the store.

    Raises StageError(Preempted) after a checkpoint where it is asked to stop, and StageError for
    whatever else ends it: with the last checkpoint that it left, so that what advances is not given up.
    """
    try:
        return _run(arguments, context)
    except Exception as problem:
        error = LastCheckpoint(context.workdir).annotate(explain(problem))
        raise error from (None if error is problem else problem)


def _run(arguments: TrainArguments, context: Context) -> TrainResult:
    if spec := RankSpec.from_environment():
        return _train_as_rank(spec, arguments, context)
    meter = Meter(arguments.gpus)
    node, ranks = Node.from_environment(), device.ranks(arguments)
    if node.index:
        context.progress.silence()
    if found := find_trained(arguments.key, context):
        return found.model_copy(update={"cache_hit": True})
    with StopSignal() as stop:
        inputs = find_inputs(arguments, context)
        if node.count * ranks > 1:
            return train_distributed(node, ranks, arguments, context, inputs, stop)
        _settle(arguments)
        with sharing(), ThreadPoolExecutor(1) as pool:
            fetched = pool.submit(fetch, arguments, context, inputs, stop.check_before_first_step)
            launch = _launch()
            fetched.result()
        return Attempt(arguments, context, inputs, launch, stop, meter, launch.ALONE).run()


def _train_as_rank(spec: RankSpec, arguments: TrainArguments, context: Context) -> TrainResult:
    """Trains as one rank of several."""
    meter = Meter(spec.world_size if arguments.gpus else 0)
    spec.die_with_parent()
    with StopSignal() as stop:
        inputs = replace(find_inputs(arguments, context), workdir=spec.directory)
        _settle(arguments, spec.rank - spec.first_of_node)
        launch = _launch()
        spec.wait_for_inputs()
        group = launch.connect(spec, arguments.gpus)
        attempt = Attempt(arguments, context, inputs, launch, stop, meter, group, smaller=spec.smaller)
        result = attempt.run()
        launch.disconnect()
        return result


def _settle(arguments: TrainArguments, rank: int = 0) -> None:
    """Before anything heavy is imported."""
    forbid_hubs()
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARNING")
    device.claim(arguments, rank)


def _launch() -> Any:
    with uncollected():
        return import_module(LAUNCH)


@dataclass(frozen=True)
class Attempt:
    """One attempt at one training, with its inputs on the disk. launch: the module of that name.
    plan: chosen by the device unless given. smaller: with less in one pass than that."""

    arguments: TrainArguments
    context: Context
    inputs: TrainInputs
    launch: Any
    stop: StopSignal
    meter: Meter
    group: "ProcessGroup"
    plan: TrainingPlan | None = None
    smaller: bool = False

    def run(self) -> TrainResult:
        """All ranks return what the leading one has made."""
        portable = config.portable(self.arguments.config, self.inputs.facts.template)
        resumed = self._newest()
        self.meter.before = resumed.cost if resumed else GpuSeconds()
        plan, callback = self._train_within_memory(portable, resumed)
        made = self._finish(portable, plan, callback) if self.group.is_main else None
        result = self.group.broadcast(made, RESULT)
        assert result  # noqa: S101 - the leading rank has made it
        return result

    def _train_within_memory(
        self, portable: dict[str, Any], resumed: FetchedCheckpoint | None
    ) -> "tuple[TrainingPlan, TrainingCallback]":
        """Where the GPU's memory does not do, once more with less of a step in one pass. Of several ranks
        the others wait for one that failed, so it ends, and all begin anew. Returns the plan as it was
        carried out."""
        plan = self.plan or self._plan()
        try:
            return self._train(portable, plan, resumed)
        except StageError as problem:
            less = smaller(plan.fit) if problem.reason is Reason.CUDA_OUT_OF_MEMORY else None
            if less is None or self.group.size > 1:
                raise
            log.warning("%s; once more with less in one pass: %s", problem.message, less)
        plan = plan.refit(less)
        self.launch.free_memory()  # here, where the problem's frames no longer hold it
        return self._train(portable, plan, self._newest())

    def _plan(self) -> TrainingPlan:
        free = int(self.group.least(device.free_bytes(self.arguments.gpus)))
        longest = self.inputs.facts.longest or (self.arguments.training.cutoff_length,)
        plan: TrainingPlan = self.launch.make_plan(
            self.arguments, self.inputs.model_directory, longest, self.group.size, free
        )
        less = smaller(plan.fit) if self.smaller else None
        return plan.refit(less) if less else plan

    @property
    def _gpus(self) -> int:
        """Of all nodes."""
        return self.group.size if self.arguments.gpus else 0

    def _train(
        self, portable: dict[str, Any], plan: TrainingPlan, resumed: FetchedCheckpoint | None
    ) -> "tuple[TrainingPlan, TrainingCallback]":
        arguments, inputs = self.arguments, self.inputs
        callback: TrainingCallback = self.launch.TrainingCallback(
            arguments,
            inputs.dataset_directory,
            plan,
            self._checkpoints() if self.group.is_main else None,
            BaseLoss.of(arguments, inputs, self.context.store) if self.group.is_main else None,
            resumed,
            self.meter,
            self.stop,
            self.context.progress,
            self.group,
        )
        local = config.local(
            portable,
            plan,
            arguments,
            self.group.size,
            inputs.model_directory,
            inputs.dataset_directory,
            self.context.workdir / "output",
            resumed.directory if resumed else None,
        )
        self.context.progress.begin("loading the model", None, "steps")
        with readable(inputs), self.uploads.awaited():
            carried_out = self.launch.train(local, arguments.training, plan, callback, self.stop, self.group)
        return carried_out, callback

    @cached_property
    def fence(self) -> Fence:
        return Fence(self.context.store, place("trainings", self.arguments.key))

    def _newest(self) -> FetchedCheckpoint | None:
        """One rank chooses it, one of each node fetches it, and all on the node see its files."""
        root, group = self.context.workdir / "resume", self.group
        found = self._checkpoints().newest(root) if group.is_main else None
        followed: FetchedCheckpoint | None = group.broadcast(found, RESUMED)
        if followed is None:
            return None
        if group.is_first_of_node and not group.is_main:
            followed = followed.fetched(self._kept(CHECKPOINTS, "checkpoint", is_kept), root)
        shared = group.broadcast_in_node(followed, RESUMED)
        assert shared  # noqa: S101 - all follow the leading rank
        return shared.seen_by(group.rank, self.context.workdir / "seen")

    def _checkpoints(self) -> Checkpoints:
        saved = self._saved(CHECKPOINTS, "checkpoint", is_kept)
        last_checkpoint = LastCheckpoint(self.inputs.workdir)
        keep = self.arguments.training.checkpoint.keep
        return Checkpoints(saved, keep, self.best_adapter, last_checkpoint, self.uploads)

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads()

    @cached_property
    def best_adapter(self) -> BestAdapter | None:
        if self.arguments.training.checkpoint.select == "last":
            return None
        checkpoints = self._saved(CHECKPOINTS, "checkpoint", is_kept)
        bests = self._saved("best", "best", FILES.__contains__)
        return BestAdapter(bests, checkpoints, self.context.workdir / "best", self.uploads)

    def _saved(self, folder: str, kind: str, of_it: Callable[[str], bool]) -> StateWriter:
        return StateWriter(**vars(self._kept(folder, kind, of_it)), fence=self.fence)

    def _kept(self, folder: str, kind: str, of_it: Callable[[str], bool]) -> StateReader:
        where = f"{place('trainings', self.arguments.key)}/{folder}"
        return StateReader(self.context.store, where, kind, self.arguments.key, self.arguments.model, of_it)

    def _finish(
        self, portable: dict[str, Any], plan: TrainingPlan, callback: "TrainingCallback"
    ) -> TrainResult:
        arguments, kept = self.arguments, self.context.workdir / "kept"
        hardware = device.hardware(self._gpus, self.group.size)
        facts = lineage(arguments, self.inputs, portable, plan, hardware, callback.resumes, callback.status)
        facts["attempt"] = self.fence.number
        dataset = self.inputs.facts.dataset
        card = adapter_card(arguments.model, dataset, portable, arguments.training, callback.status)
        trained = self.context.workdir / "output"
        write_adapter(trained, kept / ADAPTER, arguments.model, portable, card)
        (kept / METRICS).write_text(callback.history.to_json_lines())
        if compared := callback.held_out_evaluation.compared:
            (kept / COMPARED).write_text(json.dumps(compared.encode()))
        if answers := callback.held_out_evaluation.answers:
            (kept / ANSWERS).write_text(json.dumps(answers.encode()))
        unit = "pair" if arguments.training.objective == "dpo" else "learned token"
        draw_loss(callback.history.rows, kept / "loss.png", unit)
        self._checkpoints().settle(callback.steps)
        self.fence.check()
        cost = self.meter.gpu_seconds
        return commit_trained(
            self.context, arguments.key, kept, facts, callback.status, cost, callback.resumes
        )

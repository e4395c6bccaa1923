"""A training by several ranks, on one node or several: the stage starts them and reports what they do."""

import logging
from collections.abc import Callable

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.prepare.output import find_trained
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.train.inputs import TrainInputs, fetch
from lorafinetune_stages.train.last_checkpoint import LastCheckpoint
from lorafinetune_stages.train.nodes import Node, NodeGroup, Outcome
from lorafinetune_stages.train.stop_signal import StopSignal
from lorafinetune_stages.train.worker_group import WorkerGroup

log = logging.getLogger(__name__)


def train_distributed(
    node: Node, ranks: int, arguments: TrainArguments, context: Context, inputs: TrainInputs, stop: StopSignal
) -> TrainResult:
    """Has several ranks train, on one node or several. Where the memory of one does not do, all begin once
    more, with less of a step in one pass."""
    with node.connect(LastCheckpoint(context.workdir)) as nodes:
        outcome = nodes.agree(
            _first_try(WorkerGroup(node, ranks, context.workdir), arguments, context, inputs, stop, nodes)
        )
        if _is_short_of_memory(outcome) and not stop.requested:
            log.warning("%s; once more with less in one pass", outcome)
            outcome = nodes.agree(_try(WorkerGroup(node, ranks, context.workdir, smaller=True), stop, nodes))
    if isinstance(outcome, StageError):
        return _made_nevertheless(outcome, arguments, context)
    return outcome


def _made_nevertheless(problem: StageError, arguments: TrainArguments, context: Context) -> TrainResult:
    """What the store has by now: a rank may be lost when all is done. Raises the problem if it has none."""
    made = find_trained(arguments.key, context) if problem.reason is Reason.RANK_LOST else None
    if made is None:
        raise problem
    log.warning("%s; but the training was done", problem)
    return made


def _first_try(
    workers: WorkerGroup,
    arguments: TrainArguments,
    context: Context,
    inputs: TrainInputs,
    stop: StopSignal,
    nodes: NodeGroup,
) -> Outcome:
    """As _try, once the inputs of all nodes are there."""

    def check() -> None:
        stop.check_before_first_step()
        workers.check()

    def prepare() -> None:
        fetch(arguments, context, inputs, check)
        if nodes.count > 1:
            context.progress.begin("waiting for the other nodes", None, "nodes")
        nodes.begin(check)
        context.progress.hand_over()

    return _try(workers, stop, nodes, prepare)


def _try(
    workers: WorkerGroup, stop: StopSignal, nodes: NodeGroup, prepare: Callable[[], None] = lambda: None
) -> Outcome:
    """What came of it. prepare: what is to be done while the ranks start."""
    try:
        with workers:
            prepare()
            return workers.run(stop, nodes)
    except StageError as problem:
        return problem


def _is_short_of_memory(outcome: Outcome) -> bool:
    return isinstance(outcome, StageError) and outcome.reason is Reason.CUDA_OUT_OF_MEMORY

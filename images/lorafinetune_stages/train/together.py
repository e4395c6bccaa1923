"""A training by several ranks, on one node or several: the stage starts them and reports what they do."""

import logging
from collections.abc import Callable

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import TrainArguments
from lorafinetune.contract.outcome import StageError, TrainResult
from lorafinetune_stages.prepare.output import find_trained
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.train.inputs import Inputs, fetch
from lorafinetune_stages.train.mark import Mark
from lorafinetune_stages.train.nodes import Node, Others, Outcome
from lorafinetune_stages.train.stopping import Stop
from lorafinetune_stages.train.team import Team

log = logging.getLogger(__name__)


def train_together(
    node: Node, ranks: int, arguments: TrainArguments, context: Context, inputs: Inputs, stop: Stop
) -> TrainResult:
    """Has several ranks train, on one node or several. Where the memory of one does not do, all begin once
    more, with less of a step in one pass."""
    with node.meet(Mark(context.workdir)) as others:
        found = others.agree(
            _first_try(Team(node, ranks, context.workdir), arguments, context, inputs, stop, others)
        )
        if _is_short_of_memory(found) and not stop.requested:
            log.warning("%s; once more with less in one pass", found)
            found = others.agree(_try(Team(node, ranks, context.workdir, smaller=True), stop, others))
    if isinstance(found, StageError):
        return _made_all_the_same(found, arguments, context)
    return found


def _made_all_the_same(problem: StageError, arguments: TrainArguments, context: Context) -> TrainResult:
    """What the store has by now: a rank may be lost when all is done. Raises the problem if it has none."""
    made = find_trained(arguments.key, context.store) if problem.reason is Reason.RANK_LOST else None
    if made is None:
        raise problem
    log.warning("%s; but the training was done", problem)
    return made


def _first_try(
    team: Team, arguments: TrainArguments, context: Context, inputs: Inputs, stop: Stop, others: Others
) -> Outcome:
    """As _try, once the inputs of all nodes are there."""

    def check() -> None:
        stop.check_before_first_step()
        team.check()

    def prepare() -> None:
        fetch(arguments, context, inputs, check)
        if others.nodes > 1:
            context.progress.begin("waiting for the other nodes", None, "nodes")
        others.begin(check)
        context.progress.hand_over()

    return _try(team, stop, others, prepare)


def _try(team: Team, stop: Stop, others: Others, prepare: Callable[[], None] = lambda: None) -> Outcome:
    """What came of it. prepare: what is to be done while the ranks start."""
    try:
        with team:
            prepare()
            return team.run(stop, others)
    except StageError as problem:
        return problem


def _is_short_of_memory(found: Outcome) -> bool:
    return isinstance(found, StageError) and found.reason is Reason.CUDA_OUT_OF_MEMORY

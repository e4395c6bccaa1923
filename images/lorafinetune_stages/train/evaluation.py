"""The loss on held-out conversations: total negative log-likelihood over all learned tokens.

The trainer's own is a mean of means that moves with the batch size. This one is the same however the
conversations are packed, and draws no random number, so that evaluating changes nothing in the training.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, zip_longest
from typing import Any, Final

import torch
from pydantic import TypeAdapter

from lorafinetune.contract.rowlosses import RowLosses
from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.fp8 import quantise_layers, restore_layers
from lorafinetune_stages.train.nf4 import unquantised
from lorafinetune_stages.train.packed_trainer import row_nats
from lorafinetune_stages.train.packing import Row, count_learned, groups
from lorafinetune_stages.train.plan import TrainingPlan
from lorafinetune_stages.train.process_group import ProcessGroup
from lorafinetune_stages.train.wire_format import WIRE_FORMAT

COLUMNS: Final = ("input_ids", "attention_mask", "labels")

RowLoss = tuple[int, float]
"""The learned tokens of a conversation, and their nats."""
Share = list[list[RowLoss]]
"""What a rank has measured: of each pass, of each conversation."""
SHARE: Final[TypeAdapter[Share | None]] = TypeAdapter(Share | None, config=WIRE_FORMAT)


def evaluate(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], plan: TrainingPlan, group: ProcessGroup
) -> RowLosses | None:
    """Of the conversations in which something is learned, in their order; None where `stopped` says so on the
    way on any rank, or there are none. Ranks take turns at the groups of conversations that share a pass;
    where the base is split over them, all make as many passes."""
    split = plan.shards > 1
    given = groups(filter(_teaches, rows) if split else rows, plan.fit.pack_tokens)
    shares = given[group.rank :: group.size]
    turns = -(-len(given) // group.size) if split else len(shares)
    measured: Share = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for turn in range(turns):
                if group.any(stopped()) if split else stopped():
                    break
                found = list(_of_group(model, shares[turn] if turn < len(shares) else given[0], plan))
                measured += [found] if turn < len(shares) else []
    finally:
        model.train(was_training)
    return _joined(group.gather(measured if len(measured) == len(shares) else None, SHARE))


def _teaches(row: Row) -> bool:
    return count_learned([row]) > 0


def _joined(shares: Sequence[Share | None]) -> RowLosses | None:
    """What the ranks have measured, in the order of the rows. None for a rank: it was cut short."""
    whole = [share for share in shares if share is not None]
    rows = [row for turn in zip_longest(*whole, fillvalue=[]) for row in chain.from_iterable(turn)]
    if not rows or len(whole) < len(shares):
        return None
    return RowLosses.of([tokens for tokens, _ in rows], [nats for _, nats in rows])


def evaluate_last(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], plan: TrainingPlan, group: ProcessGroup
) -> RowLosses | None:
    """As evaluate, after the last step: on the base that the adapter is shipped for, also where it was
    trained on a quantised one."""
    if in_fp8(plan):
        restore_layers(model.get_base_model())
    with shipped_base(model, plan), compilation_off(plan) if in_fp8(plan) else nullcontext():
        return evaluate(model, rows, stopped, plan, group)


def evaluate_held_out(
    model: Any,
    rows: Iterable[Row],
    stopped: Callable[[], bool],
    plan: TrainingPlan,
    group: ProcessGroup,
    as_shipped: bool,
) -> RowLosses | None:
    """As evaluate_last where as_shipped, and else as evaluate."""
    measure = evaluate_last if as_shipped else evaluate
    return measure(model, rows, stopped, plan, group)


def evaluate_base(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], plan: TrainingPlan, group: ProcessGroup
) -> RowLosses | None:
    """As evaluate_last, of the base alone. Where the training is on a quantised one, its layers are as before
    afterwards: weights are quantised in one way only."""
    base = model.get_base_model()
    if in_fp8(plan):
        restore_layers(base)
    with model.disable_adapter(), shipped_base(model, plan), compilation_off(plan):
        losses = evaluate(model, rows, stopped, plan, group)
    if in_fp8(plan):
        quantise_layers(base)
    return losses


def shipped_base(model: Any, plan: TrainingPlan, wanted: bool = True) -> AbstractContextManager[None]:
    """While this is entered, a base in 4 bits is the one that the adapter is for, where that is wanted."""
    return unquantised(model.get_base_model()) if plan.nf4 and wanted else nullcontext()


def is_quantised(plan: TrainingPlan) -> bool:
    """Whether evaluations on the way are on another base than the adapter is shipped for."""
    return plan.nf4 or in_fp8(plan)


def in_fp8(plan: TrainingPlan) -> bool:
    return plan.optimizations is not None and plan.optimizations.fp8


def mixed_precision(plan: TrainingPlan, device: torch.device) -> AbstractContextManager[Any]:
    """While this is entered, what is not fp32 is computed as in the training."""
    name = plan.optimizations.mixed if plan.optimizations else ""
    return torch.autocast(device.type, getattr(torch, name)) if name else nullcontext()


def compilation_off(plan: TrainingPlan) -> AbstractContextManager[Any]:
    """Layers that are not those of the training: to compile them anew would take longer than it saves."""
    if plan.optimizations is None or not plan.optimizations.compiled:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def _of_group(model: Any, group: Sequence[Row], plan: TrainingPlan) -> Iterator[RowLoss]:
    tokens = [count_learned([row]) for row in group]
    if not any(tokens):
        return
    nats = (
        _packed(model, group, plan, tokens)
        if plan.optimizations
        else map(partial(_alone, model), group, tokens)
    )
    yield from ((count, each) for count, each in zip(tokens, nats, strict=True) if count)


def _alone(model: Any, row: Row, tokens: int) -> float:
    """Total over the learned tokens of one conversation, of which the model says the mean."""
    batch = {name: torch.tensor([row[name]], device=model.device) for name in COLUMNS}
    return float(model(**batch, use_cache=False).loss) * tokens


def _packed(model: Any, rows: Sequence[Row], plan: TrainingPlan, tokens: Sequence[int]) -> list[float]:
    """Of each conversation of one pack."""
    assert plan.optimizations  # noqa: S101 - who calls this has looked
    (pack,) = Collator(plan.fit.pack_tokens, plan.optimizations.multiple)(rows)["passes"]
    device = model.device
    moved = {name: value.to(device) if torch.is_tensor(value) else value for name, value in pack.items()}
    with mixed_precision(plan, device):
        return row_nats(model.get_base_model(), moved, plan.optimizations, tokens)

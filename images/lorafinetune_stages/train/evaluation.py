"""The loss on held-out conversations: total negative log-likelihood over all learned tokens.

The trainer's own is a mean of means that moves with the batch size. This one is the same however the
conversations are packed, and draws no random number, so that evaluating changes nothing in the training.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Final

import torch

from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.fp8 import quantise_layers, restore_layers
from lorafinetune_stages.train.packed_trainer import pack_nats
from lorafinetune_stages.train.packing import Row, groups, learned
from lorafinetune_stages.train.peers import Peers
from lorafinetune_stages.train.plan import Plan

COLUMNS: Final = ("input_ids", "attention_mask", "labels")

Nats = Callable[[Any, Sequence[Row]], float]
"""Total over the learned tokens of some conversations."""


def evaluate(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], plan: Plan, peers: Peers
) -> float | None:
    """Nats per learned token; None where `stopped` says so on the way on any rank, or nothing is learned.
    Ranks take turns at the groups of conversations that share a pass."""
    nats, tokens, cut = 0.0, 0, False
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for group in islice(groups(rows, plan.fit.pack_tokens), peers.rank, None, peers.size):
                if cut := stopped():
                    break
                if count := learned(group):
                    nats += _packed(model, group, plan) if plan.levers else _alone(model, group[0]) * count
                    tokens += count
    finally:
        model.train(was_training)
    nats, all_tokens, cuts = peers.total([nats, tokens, cut])
    return nats / all_tokens if all_tokens and not cuts else None


def evaluate_last(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], plan: Plan, peers: Peers
) -> float | None:
    """As evaluate, after the last step: on the base that the adapter is shipped for, also where it was
    trained in FP8."""
    if not in_fp8(plan):
        return evaluate(model, rows, stopped, plan, peers)
    restore_layers(model.get_base_model())
    with _uncompiled(plan):
        return evaluate(model, rows, stopped, plan, peers)


def evaluate_base(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], plan: Plan, peers: Peers
) -> float | None:
    """As evaluate_last, of the base alone. Where the training is in FP8, its layers are afterwards as before:
    weights are quantised in one way only."""
    base = model.get_base_model()
    if in_fp8(plan):
        restore_layers(base)
    with model.disable_adapter(), _uncompiled(plan):
        loss = evaluate(model, rows, stopped, plan, peers)
    if in_fp8(plan):
        quantise_layers(base)
    return loss


def in_fp8(plan: Plan) -> bool:
    """Whether evaluations on the way are on another base than the adapter is shipped for."""
    return plan.levers is not None and plan.levers.fp8


def _uncompiled(plan: Plan) -> AbstractContextManager[Any]:
    """Layers that are not those of the training: to compile them anew would take longer than it saves."""
    if plan.levers is None or not plan.levers.compiled:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def _alone(model: Any, row: Row) -> float:
    """Mean over the learned tokens of one conversation."""
    batch = {name: torch.tensor([row[name]], device=model.device) for name in COLUMNS}
    return float(model(**batch, use_cache=False).loss)


def _packed(model: Any, rows: Sequence[Row], plan: Plan) -> float:
    """Total over the conversations of one pack."""
    assert plan.levers  # noqa: S101 - who calls this has looked
    (pack,) = Collator(plan.fit.pack_tokens, plan.levers.multiple)(rows)["passes"]
    device = model.device
    moved = {name: value.to(device) if torch.is_tensor(value) else value for name, value in pack.items()}
    mixed = plan.levers.mixed
    with torch.autocast(device.type, getattr(torch, mixed)) if mixed else nullcontext():
        return float(pack_nats(model.get_base_model(), moved, plan.levers))

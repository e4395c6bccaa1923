"""What is replaced in LLaMA-Factory 0.9.5, which has no hook for it: its collator, and the step of its
trainer. The rest of its run stays as it is.

A test holds each name and signature that is relied on here.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lorafinetune.api.training import Training
from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.graphs import Capture, GraphedLayers, run_layers
from lorafinetune_stages.train.loss import ChunkLoss, chunk_loss, learned_nats, token_nats
from lorafinetune_stages.train.optimizations import Optimizations, apply, has_plain_head
from lorafinetune_stages.train.process_group import ProcessGroup
from lorafinetune_stages.train.sharding import split_when_loaded
from lorafinetune_stages.train.shared_steps import Batch, SharedSteps
from lorafinetune_stages.train.token_steps import TokenSteps, one_step
from lorafinetune_stages.train.workflows import WORKFLOWS


class _PackedSteps(SharedSteps):
    def __init__(
        self,
        training: Training,
        optimizations: Optimizations,
        group: ProcessGroup,
        capture: Capture,
        **arguments: Any,
    ) -> None:
        if training.batch_tokens:
            rows = arguments["train_dataset"]
            arguments["train_dataset"] = TokenSteps.of(rows, training.batch_tokens, training.seed)
        super().__init__(group, **arguments)
        self._optimizations = optimizations
        self.model.zero_grad = self._zero_grad
        self._each = torch.compile(chunk_loss, dynamic=True) if optimizations.compiled else chunk_loss
        base = self.model.get_base_model()
        self._graphs = GraphedLayers(base, self._trained, capture) if optimizations.graphed else None

    def pass_loss(self, model: Any, inputs: Batch, learned: int) -> Tensor:
        base = model.get_base_model()
        with self.accelerator.autocast():
            return pack_nats(base, inputs, self._optimizations, self._each, self._graphs) / learned

    def _clip_grad_norm(self, model: Any) -> Any:
        """Without a walk through all modules for the few parameters that have a gradient."""
        return self.accelerator.clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def _zero_grad(self, set_to_none: bool = True) -> None:
        """In place of the model's own, as _clip_grad_norm."""
        if self._graphs:
            self._graphs.zero_gradients()
            return
        for parameter in self._trained:
            parameter.grad = None


class PackedTrainer(_PackedSteps, WORKFLOWS["sft"].own("CustomSeq2SeqTrainer")):  # type: ignore[misc]
    """Learns the answers of conversations."""


class PackedTextTrainer(_PackedSteps, WORKFLOWS["pt"].own("CustomTrainer")):  # type: ignore[misc]
    """Learns plain texts."""


TRAINERS: Final = {"sft": PackedTrainer, "pt": PackedTextTrainer}


def pack_nats(
    base: Any,
    pack: Mapping[str, Any],
    optimizations: Optimizations,
    each: ChunkLoss = chunk_loss,
    graphs: GraphedLayers | None = None,
) -> Tensor:
    """Total negative log-likelihood of the learned tokens of a pack, in nats. base: the causal model."""
    hidden = graphs(pack) if graphs else run_layers(base, pack)
    if optimizations.sparse_loss and has_plain_head(base):
        return learned_nats(
            hidden.index_select(0, pack["sources"]), base.lm_head.weight, pack["targets"], each
        )
    return _dense(base, hidden, pack, "sum")


def row_nats(
    base: Any, pack: Mapping[str, Any], optimizations: Optimizations, tokens: Sequence[int]
) -> list[float]:
    """As pack_nats, of each conversation by itself. tokens: how many are learned in each."""
    hidden = run_layers(base, pack)
    if optimizations.sparse_loss and has_plain_head(base):
        found = token_nats(hidden.index_select(0, pack["sources"]), base.lm_head.weight, pack["targets"])
    else:
        found = _dense(base, hidden, pack, "none")
    return [float(part.sum()) for part in torch.split(found.cpu().double(), list(tokens))]


def _dense(base: Any, hidden: Tensor, pack: Mapping[str, Any], reduction: str) -> Tensor:
    logits = base.lm_head(hidden).float()
    return cross_entropy(logits[pack["sources"]], pack["targets"], reduction=reduction)


def packed_training(
    training: Training,
    optimizations: Optimizations,
    limit: int,
    group: ProcessGroup,
    capture: Capture,
    split: str = "",
) -> AbstractContextManager[None]:
    """While this is entered, LLaMA-Factory packs. limit: tokens in one pass. capture: told what became
    of it. split: on which kind of device the base is split over the ranks; empty where it is not."""
    workflow = WORKFLOWS[training.objective]
    own = workflow.own("load_model")
    load_model = split_when_loaded(own, group, split) if split else own
    collator = Collator(limit, optimizations.multiple, group.rank, group.size, bool(split))

    def load(*arguments: Any, **others: Any) -> Any:
        model = load_model(*arguments, **others)
        apply(optimizations, model)
        return model

    return workflow.replaced(
        {
            workflow.collator: lambda **_: partial(one_step, collator) if training.batch_tokens else collator,
            workflow.trainer: partial(TRAINERS[training.objective], training, optimizations, group, capture),
            "load_model": load,
        }
    )

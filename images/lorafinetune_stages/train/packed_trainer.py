"""What is replaced in LLaMA-Factory 0.9.5, which has no hook for it: its collator, and the step of its
trainer. The rest of its run stays as it is.

A test holds each name and signature that is relied on here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Final

import torch
from llamafactory.train.pt import workflow as texts
from llamafactory.train.sft import workflow as answers
from torch import Tensor
from torch.nn.functional import cross_entropy

from lorafinetune_stages.train.collator import Collator
from lorafinetune_stages.train.levers import Levers, apply, has_plain_head
from lorafinetune_stages.train.loss import ChunkLoss, chunk_loss, learned_nats

Batch = dict[str, Any]


class _PackedSteps:
    """For a trainer of transformers: takes an optimizer step pack by pack. What the trainer would ask the
    device for in every step, it is told: the device never waits for the answer."""

    model: Any
    args: Any
    state: Any
    accelerator: Any
    _prepare_inputs: Any

    def __init__(self, levers: Levers, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._levers = levers
        self._trained = [each for each in self.model.parameters() if each.requires_grad]
        self.model.zero_grad = self._zero_grad
        self._each = torch.compile(chunk_loss, dynamic=True) if levers.compiled else chunk_loss

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Returns the loss per learned token of the step."""
        if not model.training:
            model.train()
        total = torch.zeros((), device=self.args.device)
        for pack in self._prepare_inputs(inputs)["packs"]:
            with self.accelerator.autocast():
                loss = pack_nats(model.get_base_model(), pack, self._levers, self._each)
            loss = loss / max(inputs["learned"], 1)
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _clip_grad_norm(self, model: Any) -> Any:
        """Without a walk through all modules for the few parameters that have a gradient."""
        return self.accelerator.clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def _zero_grad(self, set_to_none: bool = True) -> None:
        """In place of the model's own, as _clip_grad_norm."""
        for parameter in self._trained:
            parameter.grad = None

    def floating_point_ops(self, inputs: Batch) -> int:
        return 0

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> None:
        """Each batch brings its own."""

    def _track_num_input_tokens(self, inputs: Batch) -> None:
        self.state.num_input_tokens_seen += inputs["tokens"]


class PackedTrainer(_PackedSteps, answers.CustomSeq2SeqTrainer):  # type: ignore[misc]  # LLaMA-Factory's
    """Learns the answers of conversations."""


class PackedTextTrainer(_PackedSteps, texts.CustomTrainer):  # type: ignore[misc]  # LLaMA-Factory's
    """Learns plain texts."""


@dataclass(frozen=True)
class Replaced:
    """What a run of LLaMA-Factory has of its own: the module, names in it, and what takes their place."""

    workflow: ModuleType
    collator: str
    trainer: str
    packed: type


REPLACED: Final = {
    "sft": Replaced(answers, "SFTDataCollatorWith4DAttentionMask", "CustomSeq2SeqTrainer", PackedTrainer),
    "pt": Replaced(texts, "DataCollatorForLanguageModeling", "CustomTrainer", PackedTextTrainer),
}
"""By the objective."""


def pack_nats(base: Any, pack: Mapping[str, Any], levers: Levers, each: ChunkLoss = chunk_loss) -> Tensor:
    """Total negative log-likelihood of the learned tokens of a pack, in nats. base: the causal model."""
    inputs = {name: value for name, value in pack.items() if name not in ("sources", "targets")}
    hidden = base.model(**inputs, use_cache=False).last_hidden_state[0]
    if levers.sparse_loss and has_plain_head(base):
        return learned_nats(
            hidden.index_select(0, pack["sources"]), base.lm_head.weight, pack["targets"], each
        )
    logits = base.lm_head(hidden).float()
    return cross_entropy(logits[pack["sources"]], pack["targets"], reduction="sum")


@contextmanager
def packed(objective: str, levers: Levers, limit: int) -> Iterator[None]:
    """While this is entered, LLaMA-Factory packs. limit: tokens in one pack."""
    replaced = REPLACED[objective]

    def load(*arguments: Any, **others: Any) -> Any:
        model = originals["load_model"](*arguments, **others)
        apply(levers, model)
        return model

    replacements = {
        replaced.collator: lambda **_: Collator(limit, levers.multiple),
        replaced.trainer: partial(replaced.packed, levers),
        "load_model": load,
    }
    originals = {name: getattr(replaced.workflow, name) for name in replacements}
    _set(replaced.workflow, replacements)
    try:
        yield
    finally:
        _set(replaced.workflow, originals)


def _set(workflow: ModuleType, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(workflow, name, value)

"""LLaMA-Factory trains on pairs of answers as it is, except for one thing: in its step, a pair of a small
last pass counts more than one of a full pass, so the loss would depend on how the card cuts a step.

A test holds each name and signature that is relied on here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from llamafactory.train.dpo import trainer
from torch import Tensor

ORIGINAL: Final = trainer.CustomDPOTrainer


class PairTrainer(ORIGINAL):  # type: ignore[misc, valid-type]  # LLaMA-Factory is not typed
    """Weighs the pairs of a step alike."""

    def _get_num_items_in_batch(self, batch_samples: Sequence[Any], device: Any) -> int:
        """Pairs in a step."""
        return sum(map(_pairs, batch_samples))

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **others: Any) -> Tensor:
        """The part of a pass in the mean of its step; the trainer divides it by the number of passes."""
        share = _pairs(inputs) / others["num_items_in_batch"]
        loss: Tensor = super().compute_loss(model, inputs) * share * self.current_gradient_accumulation_steps
        return loss


def _pairs(batch: Any) -> int:
    """A batch has the rows with the chosen answers, then those with the rejected ones."""
    return len(batch["input_ids"]) // 2


@contextmanager
def weighed_alike() -> Iterator[None]:
    """While this is entered, LLaMA-Factory trains so."""
    trainer.CustomDPOTrainer = PairTrainer
    try:
        yield
    finally:
        trainer.CustomDPOTrainer = ORIGINAL

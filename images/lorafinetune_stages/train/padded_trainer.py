"""Padded conversations on several ranks, for trainings that can't be packed. On one rank LLaMA-Factory trains
as it is. On several, its own way would repeat rows, and give the rows of a short pass more weight.

A test holds each name and signature that is relied on here.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from torch import Tensor

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.packing import IGNORED, Row, even, shares, shortest
from lorafinetune_stages.train.process_group import ProcessGroup
from lorafinetune_stages.train.sharding import split_when_loaded
from lorafinetune_stages.train.shared_steps import Batch, SharedSteps
from lorafinetune_stages.train.workflows import WORKFLOWS


class _PaddedSteps(SharedSteps):
    compute_loss: Any
    compute_loss_func: Any
    model_accepts_loss_kwargs: bool

    def __init__(self, group: ProcessGroup, **arguments: Any) -> None:
        super().__init__(group, **arguments)
        if self.compute_loss_func is None and not self.model_accepts_loss_kwargs:
            raise StageError(
                Reason.CONFIG_INVALID,
                "resources.train.gpu.count: the model can't be told how many tokens other GPUs learn",
                "Set `spec.resources.train.gpu.count: 1`.",
            )

    def pass_loss(self, model: Any, inputs: Batch, learned: int) -> Tensor:
        loss: Tensor = self.compute_loss(model, inputs, num_items_in_batch=learned)
        return loss


class PaddedTrainer(_PaddedSteps, WORKFLOWS["sft"].own("CustomSeq2SeqTrainer")):  # type: ignore[misc]
    """Learns the answers of conversations."""


class PaddedTextTrainer(_PaddedSteps, WORKFLOWS["pt"].own("CustomTrainer")):  # type: ignore[misc]
    """Learns plain texts."""


TRAINERS: Final = {"sft": PaddedTrainer, "pt": PaddedTextTrainer}


@dataclass(frozen=True)
class PaddedCollator:
    """Makes of the rows of an optimizer step what a rank's step takes. pad: LLaMA-Factory's own collator.
    rows: in one pass. together: ranks make as many passes, some of them idle."""

    pad: Callable[[Sequence[Row]], Any]
    rows: int
    group: ProcessGroup
    together: bool = False

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        every = [self._cut(share) for share in shares(rows, self.group.size)]
        passes, idle = every[self.group.rank], 0
        if self.together:
            passes, idle = even(every, self.group.rank, lambda: [shortest(rows)])
        return {
            "passes": [self.pad(each) for each in passes],
            "idle": idle,
            "learned": sum(label != IGNORED for row in rows for label in row["labels"]),
            "tokens": sum(len(row["input_ids"]) for row in rows),
        }

    def _cut(self, share: Sequence[Row]) -> list[Sequence[Row]]:
        return [share[start : start + self.rows] for start in range(0, len(share), self.rows)]


def padded_training(
    objective: str, rows: int, group: ProcessGroup, split: str = ""
) -> AbstractContextManager[None]:
    """While this is entered, LLaMA-Factory pads on several ranks. rows: in one pass. split: on which kind of
    device the base is split over the ranks; empty where it is not."""
    workflow = WORKFLOWS[objective]
    collator, load_model = workflow.own(workflow.collator), workflow.own("load_model")
    return workflow.replaced(
        {
            workflow.collator: lambda **given: PaddedCollator(collator(**given), rows, group, bool(split)),
            workflow.trainer: partial(TRAINERS[objective], group),
            "load_model": split_when_loaded(load_model, group, split) if split else load_model,
        }
    )

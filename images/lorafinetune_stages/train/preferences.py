"""How well a model tells the chosen answer from the rejected one, on held-out pairs.

It is the loss of the training, by the same formula, but pair by pair, so the batch size does not change it.
It uses no random number.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lorafinetune.contract.rowlosses import RowLosses
from lorafinetune_stages.train.packing import IGNORED

Row = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Preferred:
    """losses: of each pair. accuracy: share of the pairs of which the chosen answer has gained more on
    the base than the rejected one."""

    losses: RowLosses
    accuracy: float

    @property
    def measured(self) -> dict[str, float]:
        """As a row of the log has it."""
        return {"eval_loss": self.losses.loss, "eval_rewards/accuracies": self.accuracy}


def of_base(pairs: int) -> Preferred:
    """A model that is its base: no answer has gained."""
    return Preferred(RowLosses.of([1] * pairs, [math.log(2)] * pairs), 0.0)


def evaluate_pairs(
    model: Any, rows: Iterable[Row], stopped: Callable[[], bool], beta: float
) -> Preferred | None:
    """None where `stopped` says so on the way, or there are no pairs. model: a PeftModel."""
    losses: list[float] = []
    won = 0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for row in rows:
                if stopped():
                    return None
                margin = _gain(model, row, "chosen") - _gain(model, row, "rejected")
                losses.append(float(softplus(-beta * margin)))
                won += bool(margin > 0)
    finally:
        model.train(was_training)
    if not losses:
        return None
    return Preferred(RowLosses.of([1] * len(losses), losses), won / len(losses))


def _gain(model: Any, row: Row, side: str) -> Tensor:
    """By how many nats an answer is more likely than for the base."""
    tokens, labels = (
        torch.tensor(row[f"{side}_{name}"], device=model.device) for name in ("input_ids", "labels")
    )
    tuned = _log_likelihood(model, tokens, labels)
    with model.disable_adapter():
        return tuned - _log_likelihood(model, tokens, labels)


def _log_likelihood(model: Any, tokens: Tensor, labels: Tensor) -> Tensor:
    places = (labels[1:] != IGNORED).nonzero()[:, 0]
    logits = model(input_ids=tokens[None], use_cache=False).logits[0, places].float()
    found: Tensor = logits.log_softmax(-1).gather(1, labels[places + 1, None]).sum()
    return found

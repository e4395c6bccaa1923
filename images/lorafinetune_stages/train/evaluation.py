"""The loss on held-out conversations: total negative log-likelihood over all learned tokens.

The trainer's own is a mean of means that moves with the batch size. This one takes one conversation at
a time and draws no random number, so that evaluating changes nothing in the training.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch

COLUMNS: Final = ("input_ids", "attention_mask", "labels")
IGNORED: Final = -100
"""Label of a token that is not learned."""


def evaluate(
    model: Any, rows: Iterable[Mapping[str, list[int]]], stopped: Callable[[], bool]
) -> float | None:
    """Nats per learned token; None where `stopped` says so on the way, or nothing is learned."""
    nats, tokens = 0.0, 0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for row in rows:
                if stopped():
                    return None
                if learned := sum(label != IGNORED for label in row["labels"][1:]):
                    nats += _mean_loss(model, row) * learned
                    tokens += learned
    finally:
        model.train(was_training)
    return nats / tokens if tokens else None


def _mean_loss(model: Any, row: Mapping[str, list[int]]) -> float:
    batch = {name: torch.tensor([row[name]], device=model.device) for name in COLUMNS}
    return float(model(**batch, use_cache=False).loss)

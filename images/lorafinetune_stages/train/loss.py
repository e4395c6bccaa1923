"""Cross-entropy where something is learned, and nowhere else.

The logits of a vocabulary are the largest thing in a training: they are made for a few hundred places at
a time, and their gradient with them, so that none outlives its chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lorafinetune.contract.memory import CHUNK_PLACES

ChunkLoss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def chunk_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Total negative log-likelihood in nats, and its gradient by `hidden`.

    hidden: [places, width]. weight: of the frozen head, [vocabulary, width]. targets: [places].
    """
    logits = (hidden @ weight.T).float()
    total = logits.logsumexp(-1, keepdim=True)
    nats = (total - logits.gather(-1, targets[:, None])).sum()
    words = torch.arange(weight.shape[0], device=weight.device)
    gradient = (logits - total).exp() - (words == targets[:, None]).float()
    return nats, gradient.to(hidden.dtype) @ weight


class _Nats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, each: ChunkLoss) -> Tensor:
        nats = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(targets), CHUNK_PLACES):
            part = slice(start, start + CHUNK_PLACES)
            loss, gradient[part] = each(hidden[part], weight, targets[part])
            nats += loss
        ctx.save_for_backward(gradient)
        return nats

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None, None, None


def learned_nats(hidden: Tensor, weight: Tensor, targets: Tensor, each: ChunkLoss = chunk_loss) -> Tensor:
    """As chunk_loss, of any number of places; differentiable by `hidden` alone."""
    total: Tensor = _Nats.apply(hidden, weight, targets, each)  # type: ignore[no-untyped-call]  # torch
    return total


def token_nats(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """As learned_nats, of each place: [places]. Nothing is learned from it."""
    parts = zip(torch.split(hidden, CHUNK_PLACES), torch.split(targets, CHUNK_PLACES), strict=True)
    return torch.cat([cross_entropy((part @ weight.T).float(), to, reduction="none") for part, to in parts])

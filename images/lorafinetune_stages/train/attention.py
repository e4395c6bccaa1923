"""Attention over packed conversations: within each, and never across.

Registered with transformers under one name, in one of two forms: FlashAttention over all conversations
at once, which torch ships, or torch's ordinary attention, conversation by conversation. Rows that come
without bounds are one conversation each.

FlashAttention is called as `torch.nn.attention.varlen` calls it, without the operator written in Python
that is around it there: on a fast card that takes about as long as the attention itself.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, Literal

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME: Final = "packed"
MAX_HEAD: Final = 256
"""Widest head of FlashAttention."""

Attention = Literal["varlen", "each"]


def register(kind: Attention) -> None:
    """Makes NAME an attention of transformers. It has no mask: padding to the right is never seen."""
    AttentionInterface.register(NAME, FORMS[kind])


def suits(device: str, precision: str, head: int) -> bool:
    """Whether FlashAttention computes this. precision: the spec's. head: width of one."""
    return (
        device == "cuda"
        and precision != "fp32"
        and head <= MAX_HEAD
        and torch.cuda.get_device_capability() >= (8, 0)
    )


def _varlen(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[Tensor, None]:
    """query, key, value: [1, heads, tokens, width]. Returns [1, tokens, heads, width]."""
    if cu_seq_lens_q is None:
        return _each(module, query, key, value, attention_mask, scaling=scaling, **others)
    query, key, value = (part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value))
    bounds, longest = (cu_seq_lens_q, cu_seq_lens_q), (max_length_q, max_length_q)
    result, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, *bounds, *longest, 0.0, True, return_debug_mask=False, scale=scaling
    )
    return result[None], None


def _each(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As _varlen."""
    bounds = [0, query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    kept = {name: others[name] for name in ("scaling", "dropout") if name in others}
    parts = [
        sdpa_attention_forward(
            module, *(part[:, :, start:end] for part in (query, key, value)), attention_mask, **kept
        )[0]
        for start, end in pairwise(bounds)
    ]
    return torch.cat(parts, dim=1), None


FORMS: Final[dict[Attention, Callable[..., tuple[Tensor, None]]]] = {"varlen": _varlen, "each": _each}

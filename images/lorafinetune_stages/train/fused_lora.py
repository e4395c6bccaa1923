"""An adapter beside a frozen layer, in as few kernels as it takes.

With 8-bit products, a card finishes a layer of a usual step before Python has launched the next layer's
kernels. Most of those are the adapters': PEFT and autograd scale, cast and copy tensors that are a few
numbers wide. Here an adapter's scale is part of the 16-bit copy of its weight, and its gradients come in fp32
and in the layout that they have in memory. The numbers are PEFT's.
"""

import logging
from typing import Any, Final

import torch
from peft.tuners import lora
from torch import Tensor, nn

log = logging.getLogger(__name__)

COMPUTED: Final = torch.bfloat16


class _Update(torch.autograd.Function):
    """inputs @ first.T @ second.T * scale in 16 bits, of weights that are fp32 and so are their gradients."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, first: Tensor, second: Tensor, scale: float) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1]).to(COMPUTED)
        down, up = first.to(COMPUTED), (second * scale).to(COMPUTED)
        middle = rows @ down.T
        ctx.save_for_backward(rows, middle, down, up)
        ctx.scale = scale
        return (middle @ up.T).view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, middle, down, up = ctx.saved_tensors
        gradient = outer[0].reshape(-1, outer[0].shape[-1])
        inner = gradient @ up
        return (
            (inner @ down).view(*outer[0].shape[:-1], -1),
            _in_fp32(inner.T, rows),
            _in_fp32(gradient.T, middle) * ctx.scale,
            None,
        )


def _in_fp32(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, of 16-bit matrices, without rounding the result to 16 bits."""
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


class FusedLora(lora.Linear):  # type: ignore[misc]  # peft is not typed
    """PEFT's layer, with another way to compute the same. A module of PEFT becomes one by its class alone, so
    that its weights have the names that PEFT saves and loads."""

    def forward(self, x: Tensor, *arguments: Any, **others: Any) -> Tensor:
        result: Tensor
        if self.disable_adapters:
            result = super().forward(x, *arguments, **others)
            return result
        (name,) = self.active_adapters
        first, second = self.lora_A[name].weight, self.lora_B[name].weight
        update: Tensor = _Update.apply(x, first, second, self.scaling[name])  # type: ignore[no-untyped-call]  # torch
        result = self.base_layer(x) + update
        return result


def adapt_layers(model: Any) -> None:
    """model: a PeftModel that computes in bf16. An adapter that is more than two products stays as it is."""
    linear = [module for module in model.modules() if type(module) is lora.Linear]
    plain = [module for module in linear if _is_plain(module)]
    for module in plain:
        module.__class__ = FusedLora
    if others := len(linear) - len(plain):
        log.warning(
            "%d adapters compute as PEFT has it, which is slower: with dropout, a bias or a variant, an "
            "adapter is more than two products",
            others,
        )


def _is_plain(module: Any) -> bool:
    """Whether there is nothing but the two products: one adapter, no dropout, no bias and no variant."""
    kept = all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
    more = module.lora_variant or any(module.lora_bias.values())
    return kept and not more and len(module.lora_A) == 1

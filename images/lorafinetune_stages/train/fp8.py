"""The frozen base's linear layers in FP8: products of 8-bit floats, which take half the time of 16-bit ones.

Each row of activations, and each output of a layer, has a scale of its own, so that its largest element is
the largest that e4m3 has. Weights are quantised once, and once more turned around for the gradient by the
input: two copies of a byte take the place of the two bytes that they had. The adapters compute as they do
beside any base. Quantising activations is elementwise work, which torch.compile puts into the kernels that
make them.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeGuard

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lorafinetune_stages.train.base_files import tensor_files, weight_names

log = logging.getLogger(__name__)

E4M3: Final = torch.float8_e4m3fn
LARGEST: Final = torch.finfo(E4M3).max
LEAST: Final = 1e-30
"""Of a row's largest element: one of zeros alone has no scale."""
MULTIPLE: Final = 16
"""Of which the sides of a matrix must be one for the card."""
NARROW: Final = 512
"""A matrix with a side below this, like the keys' of a few heads, is no faster in FP8."""


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in E4M3, and their scales in fp32, [rows, 1]. What is no number stays none."""
    most = rows.abs().amax(-1, keepdim=True).float().clamp(min=LEAST)
    return (rows.float() * (LARGEST / most)).to(E4M3).contiguous(), most / LARGEST


def multiply(left: Tensor, right: Tensor, left_scales: Tensor, right_scales: Tensor) -> Tensor:
    """left @ right.T in bf16. left: [rows, inner]; right: [outputs, inner]; both as quantise makes them."""
    product: Tensor = torch._scaled_mm(
        left, right.T, left_scales, right_scales.T, out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return product


class _Product(torch.autograd.Function):
    """inputs @ weight.T, whose gradient by the inputs is another product in FP8. The weight has none."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, scales: Tensor, turned: Tensor, turned_scales: Tensor
    ) -> Tensor:
        ctx.save_for_backward(turned, turned_scales)
        return _times(inputs, weight, scales)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _times(outer[0], *ctx.saved_tensors), None, None, None, None


def _times(inputs: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    rows, row_scales = quantise(inputs.reshape(-1, inputs.shape[-1]))
    return multiply(rows, weight, row_scales, scales).view(*inputs.shape[:-1], -1)


class Fp8Linear(nn.Module):
    """A frozen linear layer, without the weight that it was made of. What it holds in FP8 is in no
    state_dict."""

    weight_fp8: Tensor
    weight_scales: Tensor
    turned_fp8: Tensor
    turned_scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        self.bias = linear.bias
        weight = linear.weight.detach()
        for name, matrix in (("weight", weight), ("turned", weight.T)):
            quantised, scales = quantise(matrix)
            self.register_buffer(f"{name}_fp8", quantised, persistent=False)
            self.register_buffer(f"{name}_scales", scales, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = _Product.apply(  # type: ignore[no-untyped-call]  # torch
            inputs, self.weight_fp8, self.weight_scales, self.turned_fp8, self.turned_scales
        )
        return result if self.bias is None else result + self.bias


def gains(base: Any) -> bool:
    """Whether FP8 suits any layer of a causal model."""
    return any(_suits(child) for _, _, child in _children(base))


def quantise_layers(base: Any) -> None:
    """Replaces the frozen linear layers in the layers of a causal model, one layer after the other, so that
    no more than one is there twice. Those that FP8 does not suit stay as they are."""
    for parent, name, child in _children(base):
        if _suits(child) and not child.weight.requires_grad:
            setattr(parent, name, Fp8Linear(child))


def _suits(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and all(
        side >= NARROW and side % MULTIPLE == 0 for side in module.weight.shape
    )


def restore_layers(base: Any) -> bool:
    """Puts the unquantised weights back, from the files that the model was loaded from. Returns whether
    they were there: where they are not, nothing is changed."""
    quantised = [
        (parent, name, child) for parent, name, child in _children(base) if isinstance(child, Fp8Linear)
    ]
    files = tensor_files(Path(base.name_or_path))
    names = weight_names(base)
    if missing := [names[child] for _, _, child in quantised if names[child] not in files]:
        log.warning("the base stays in FP8: its files do not have %s", missing[0])
        return False
    for parent, name, child in quantised:
        with safe_open(files[names[child]], "pt") as file:
            setattr(parent, name, _linear(child, file.get_tensor(names[child])))
    return True


def _children(base: Any) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Each module in the layers, after the module that has it and its name there."""
    for layer in base.model.layers:
        for parent in list(layer.modules()):
            for name, child in list(parent.named_children()):
                yield parent, name, child


def _linear(quantised: Fp8Linear, weight: Tensor) -> nn.Linear:
    device = quantised.weight_scales.device
    linear = nn.Linear(quantised.in_features, quantised.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.to(device, quantised.dtype), requires_grad=False)
    linear.bias = quantised.bias
    return linear

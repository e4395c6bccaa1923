"""One weight at a time, merged by PEFT's own layer code: what PEFT makes of a whole model, tensor by tensor.

The adapter is fp32, the sum is fp32, and there is one rounding, to the type of the base.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

ADAPTER: Final = "default"
PREFIX: Final = "base_model.model."
A: Final = ".lora_A.weight"
B: Final = ".lora_B.weight"
MAGNITUDE: Final = ".lora_magnitude_vector"
SUPPORTED: Final = (torch.bfloat16, torch.float16, torch.float32)
UNSUPPORTED: Final = (
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "trainable_token_indices",
)
"""Settings of PEFT that a training of ours does not have."""


class Adapter:
    """An adapter as PEFT saves it, in memory. Raises StageError(ModelUnsupported) for one of another kind
    than our training makes."""

    def __init__(self, directory: Path) -> None:
        self._config: Any = LoraConfig.from_pretrained(directory)
        self._tensors = load_file(directory / "adapter_model.safetensors")
        used = [name for name in UNSUPPORTED if getattr(self._config, name)]
        odd = [name for name in self._tensors if not name.endswith((A, B, MAGNITUDE))]
        if used or odd:
            raise _unsupported(f"has {(used + odd)[0]}")
        self._layers = {
            name.removeprefix(PREFIX).removesuffix(A): name.removesuffix(A)
            for name in self._tensors
            if name.endswith(A)
        }

    def match(self, names: Iterable[str]) -> dict[str, str]:
        """Which weight of the base each layer of the adapter belongs to: layer by name of the weight.

        A base may be stored without the outermost module, which its head adds on loading. Raises
        StageError(ModelUnsupported) where a layer has no weight.
        """
        there = set(names)
        matched = {}
        for layer in self._layers:
            candidates = (f"{layer}.weight", f"{layer.partition('.')[2]}.weight")
            weight = next((name for name in candidates if name in there), None)
            if weight is None:
                raise _unsupported(f"tunes {layer}, of which the base model stores no weight")
            matched[weight] = layer
        return matched

    def merge(self, weight: torch.Tensor, layer: str) -> torch.Tensor:
        """The weight with the adapter's update, in the weight's own type and shape.

        A new tensor: PEFT adds in place, and the weight may be a mapped file, whose changed pages would
        stay in memory as long as the file is open.
        """
        name = self._layers[layer]
        lora_a, lora_b = self._tensors[name + A], self._tensors[name + B]
        transposed = bool(self._config.fan_in_fan_out)
        inputs, outputs = lora_a.shape[1], lora_b.shape[0]
        expected = (inputs, outputs) if transposed else (outputs, inputs)
        if weight.dtype not in SUPPORTED or tuple(weight.shape) != expected:
            raise _unsupported(f"tunes {layer}, whose weight is {weight.dtype} of {tuple(weight.shape)}")
        tuned = Linear(
            _holder(weight.clone(), inputs, outputs, transposed),
            ADAPTER,
            r=lora_a.shape[0],
            lora_alpha=self._config.lora_alpha,
            fan_in_fan_out=transposed,
            is_target_conv_1d_layer=transposed,
            use_rslora=self._config.use_rslora,
            use_dora=self._config.use_dora,
        )
        tuned.lora_A[ADAPTER].weight.data = lora_a
        tuned.lora_B[ADAPTER].weight.data = lora_b
        if self._config.use_dora:
            tuned.lora_magnitude_vector[ADAPTER].weight.data = self._tensors[name + MAGNITUDE]
        tuned.merge()
        merged: torch.Tensor = tuned.get_base_layer().weight.data
        return merged


def _holder(weight: torch.Tensor, inputs: int, outputs: int, transposed: bool) -> Any:
    """The base layer that PEFT expects, around a weight that is already there."""
    with torch.device("meta"):
        layer = Conv1D(outputs, inputs) if transposed else torch.nn.Linear(inputs, outputs, bias=False)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    return layer


def _unsupported(what: str) -> StageError:
    return StageError(
        Reason.MODEL_UNSUPPORTED,
        f"export.merged: the adapter {what}: it can't be merged",
        "Leave `spec.export.merged` out, and use the adapter with the base model.",
    )

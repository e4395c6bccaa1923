"""Merges some rows of a weight at a time by PEFT's own layer code, with the result that PEFT has for a whole
model.

The adapter is fp32, the sum is fp32, and there is one rounding, to the type of the base. A row of the result
depends on the same row of the weight alone, so that a weight need never be whole in memory.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.export.layout import Tensor

ADAPTER: Final = "default"
PREFIX: Final = "base_model.model."
A: Final = ".lora_A.weight"
B: Final = ".lora_B.weight"
MAGNITUDE: Final = ".lora_magnitude_vector"
BASE_LAYER: Final = ".base_layer"
"""Part of the name that PEFT gives to the weight of a tuned layer, where it keeps that too."""
DTYPES: Final = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
BLOCK_ELEMENTS: Final = 2**18
"""What is merged at once: with its sum in fp32 it fits a core's cache, which is several times faster."""
NOT_BY_ROWS: Final = ("lora_bias", "trainable_token_indices")
"""Settings of PEFT that change more than one weight, or not by its rows."""


class NotStreamableError(Exception):
    """The adapter can't be merged weight by weight, or not into weights as the base stores them."""


@dataclass(frozen=True)
class Merge:
    """How a weight is merged. apply: changes some of its rows in place, given the number of the first.
    whole: it needs all of them at once."""

    apply: Callable[[torch.Tensor, int], None]
    dtype: torch.dtype
    whole: bool = False


class Adapter:
    """An adapter as PEFT saves it. Raises NotStreamableError."""

    def __init__(self, directory: Path) -> None:
        self._config: Any = LoraConfig.from_pretrained(directory)
        self._tensors = load_file(directory / "adapter_model.safetensors")
        bare = [name.removeprefix(PREFIX) for name in self._tensors]
        self._layers = [name.removesuffix(A) for name in bare if name.endswith(A)]
        parts = {f"{layer}{end}" for layer in self._layers for end in (A, B, MAGNITUDE)}
        self._kept_whole = [name for name in bare if name not in parts]
        odd = [name for name in NOT_BY_ROWS if getattr(self._config, name)]
        odd += [name for name in self._kept_whole if ".lora_" in name]
        if odd:
            raise NotStreamableError(f"the adapter has {odd[0]}")

    def merges(self, tensors: Iterable[Tensor]) -> dict[str, Merge]:
        """How the weights of the base that the adapter changes are merged, by their names.

        A base may be stored without the outermost module, which its head adds on loading. Raises
        NotStreamableError where it stores no such weight, and StageError(ModelUnsupported) where its shape
        is another.
        """
        stored = {tensor.name: tensor for tensor in tensors}
        made: dict[str, Merge] = {}
        for name in self._kept_whole:
            weight = _stored(stored, name.replace(BASE_LAYER, ""))
            made[weight.name] = self._replacement(weight, name)
        for layer in self._layers:
            weight = _stored(stored, f"{layer}.weight")
            made[weight.name] = _after(made.get(weight.name), self._layer(weight, layer))
        return made

    def _layer(self, weight: Tensor, layer: str) -> Merge:
        transposed = bool(self._config.fan_in_fan_out)
        inputs, outputs = self._part(layer, A).shape[1], self._part(layer, B).shape[0]
        dtype = _fitting(weight, (inputs, outputs) if transposed else (outputs, inputs), f"tunes {layer}")
        return Merge(partial(self._merge, layer), dtype, whole=transposed)

    def _replacement(self, weight: Tensor, name: str) -> Merge:
        saved = self._tensors[PREFIX + name]

        def replace(rows: torch.Tensor, first: int) -> None:
            rows.copy_(saved[first : first + len(rows)])

        return Merge(replace, _fitting(weight, tuple(saved.shape), f"has {name}"))

    def _merge(self, layer: str, rows: torch.Tensor, first: int) -> None:
        if self._config.fan_in_fan_out:
            self._merge_block(self._linear(layer, *reversed(rows.shape)), layer, rows, slice(None))
            return
        step = max(BLOCK_ELEMENTS // rows.shape[1], 1)
        tuned = self._linear(layer, *rows.shape)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            outputs = slice(first + start, first + start + len(block))
            self._merge_block(tuned, layer, block, outputs)

    def _merge_block(self, tuned: Any, layer: str, block: torch.Tensor, outputs: slice) -> None:
        tuned.get_base_layer().weight = _fixed(block)
        tuned.lora_A[ADAPTER].weight = _fixed(self._part(layer, A))
        tuned.lora_B[ADAPTER].weight = _fixed(self._part(layer, B)[outputs])
        if self._config.use_dora:
            tuned.lora_magnitude_vector[ADAPTER].weight = _fixed(self._part(layer, MAGNITUDE)[outputs])
        tuned.merge()
        tuned.merged_adapters.clear()
        merged: torch.Tensor = tuned.get_base_layer().weight.data
        if merged.data_ptr() != block.data_ptr():
            block.copy_(merged)

    def _linear(self, layer: str, outputs: int, inputs: int) -> Any:
        """PEFT's layer, without weights."""
        config = self._config
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, layer), config.lora_alpha)
        transposed = bool(config.fan_in_fan_out)
        with torch.device("meta"):
            base = Conv1D(outputs, inputs) if transposed else torch.nn.Linear(inputs, outputs, bias=False)
            return Linear(
                base,
                ADAPTER,
                r=self._part(layer, A).shape[0],
                lora_alpha=alpha,
                fan_in_fan_out=transposed,
                is_target_conv_1d_layer=transposed,
                init_lora_weights=False,
                use_rslora=config.use_rslora,
                use_dora=config.use_dora,
            )

    def _part(self, layer: str, part: str) -> torch.Tensor:
        return self._tensors[PREFIX + layer + part].float()


def _after(first: Merge | None, then: Merge) -> Merge:
    if first is None:
        return then

    def apply(rows: torch.Tensor, number: int) -> None:
        first.apply(rows, number)
        then.apply(rows, number)

    return Merge(apply, then.dtype, then.whole)


def _stored(stored: dict[str, Tensor], name: str) -> Tensor:
    found = stored.get(name) or stored.get(name.partition(".")[2])
    if found is None:
        raise NotStreamableError(f"the base model stores no {name}")
    return found


def _fitting(weight: Tensor, shape: tuple[int, ...], what: str) -> torch.dtype:
    """The type of the weight. Raises StageError(ModelUnsupported) where the adapter is for another one."""
    dtype = DTYPES.get(weight.dtype)
    fits = dtype and weight.shape == shape and weight.bytes == dtype.itemsize * math.prod(shape) > 0
    if dtype is None or not fits:
        raise unmergeable(f"{what}, whose weight is {weight.dtype} of {weight.shape}")
    return dtype


def _fixed(weight: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight, requires_grad=False)


def unmergeable(what: str) -> StageError:
    return StageError(
        Reason.MODEL_UNSUPPORTED,
        f"export.merged: the adapter {what}: it can't be merged",
        "Leave `spec.export.merged` out, and use the adapter with the base model.",
    )

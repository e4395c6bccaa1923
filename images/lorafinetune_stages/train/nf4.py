"""The frozen base's linear layers in 4 bits, as QLoRA has them: bitsandbytes holds and multiplies them.

LLaMA-Factory loads them so. Here is what it leaves to be done: to see that it did, to keep bitsandbytes from
an inference path that spoils the training after it, and to evaluate on the base that an adapter is shipped
for.

bitsandbytes is imported where a base is quantised, and nowhere else: it takes one or two seconds.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from peft.tuners.lora import model as peft_lora
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from lorafinetune_stages.train.base_files import tensor_files, weight_names

log = logging.getLogger(__name__)


@contextmanager
def without_bitsandbytes() -> Iterator[None]:
    """While this is entered, PEFT does not import bitsandbytes only since it is installed."""
    originals = peft_lora.is_bnb_available, peft_lora.is_bnb_4bit_available
    peft_lora.is_bnb_available = peft_lora.is_bnb_4bit_available = lambda: False
    try:
        yield
    finally:
        peft_lora.is_bnb_available, peft_lora.is_bnb_4bit_available = originals


def settle(base: Any) -> None:
    """Before a loaded base is first used. Raises RuntimeError where its layers are not in 4 bits."""
    found = layers(base)
    if not found:
        raise RuntimeError(f"no layer of {type(base).__name__} is in 4 bits")
    for layer in found:
        # In an evaluation on a processor with AVX512-BF16 it would pack the weights anew, in place, as its
        # way back does not read them.
        layer.support_avx512bf16_for_cpu = False
    log.info("fast paths: the base is in nf4: %d layers, scales quantised too", len(found))


def layers(base: Any) -> list[Any]:
    """Those in 4 bits."""
    from bitsandbytes.nn import Linear4bit

    return [module for module in base.modules() if isinstance(module, Linear4bit)]


@contextmanager
def unquantised(base: Any) -> Iterator[None]:
    """While this is entered, the layers compute with the weights in the files that the base was loaded from:
    a card that is too small for them has one matrix at a time. Where they are not there, nothing changes."""
    found, names = layers(base), weight_names(base)
    files = tensor_files(Path(base.name_or_path))
    if missing := [names[layer] for layer in found if names[layer] not in files]:
        log.warning("the base stays in 4 bits: its files do not have %s", missing[0])
        yield
        return
    with ExitStack() as stack:
        opened = {path: stack.enter_context(safe_open(path, "pt")) for path in set(files.values())}
        for layer in found:
            layer.forward = partial(_exact, layer, opened[files[names[layer]]], names[layer])
        try:
            yield
        finally:
            for layer in found:
                del layer.forward


def _exact(layer: Any, file: Any, name: str, inputs: Tensor) -> Tensor:
    """layer: whose forward this stands for; its own takes and returns other types than its weights' too."""
    weight = file.get_tensor(name).to(inputs.device, layer.compute_dtype)
    turned = weight.T if issubclass(layer.source_cls, Conv1D) else weight
    return functional.linear(inputs.to(weight.dtype), turned, layer.bias).to(inputs.dtype)

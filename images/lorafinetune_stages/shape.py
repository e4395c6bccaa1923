"""The sizes of a base model with an adapter, counted on the model itself, which needs no weights for it.

Importing this module imports torch and transformers, which takes long.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Lora
from lorafinetune.contract.memory import ModelShape
from lorafinetune.contract.outcome import StageError

ADAPTABLE: Final = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
"""Layers that PEFT can give an adapter."""
ALL_LINEAR: Final = "all"
PER_HEAD: Final = {
    "q_norm": "num_attention_heads",
    "q_layernorm": "num_attention_heads",
    "k_norm": "num_key_value_heads",
    "k_layernorm": "num_key_value_heads",
}
"""Normalisations of every head by itself, and how many heads there are."""


def build(model: Path) -> Any:
    """The network without its weights. model: directory of its files.

    Raises StageError(ModelUnsupported) where none can be built.
    """
    try:
        parsed = AutoConfig.from_pretrained(model, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(parsed)
    except Exception as problem:
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"model.source: no model can be built from its config.json: {str(problem)[:600]}",
        ) from problem


def adaptable(network: Any) -> dict[str, Any]:
    """Layers that can get an adapter, by their full names."""
    outer = _outer(network)
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, ADAPTABLE) and not any(module is one for one in outer)
    }


def fixed(network: Any) -> dict[str, str]:
    """Layers that get no adapter, by the ends of their names, and what they are."""
    outer = _outer(network)
    return {
        name.rpartition(".")[2]: words
        for name, module in network.named_modules()
        for one, words in outer.items()
        if module is one
    }


def _outer(network: Any) -> dict[Any, str]:
    return {
        network.get_input_embeddings(): "the input embedding",
        network.get_output_embeddings(): "the output head",
    }


def measure(network: Any, lora: Lora) -> ModelShape:
    """The sizes of a network with its adapter."""
    config = network.config.get_text_config()
    linear = adaptable(network)
    sizes = [_size(module) for name, module in linear.items() if _is_target(name, lora.targets)]
    layers = config.num_hidden_layers
    inputs, outputs = sum(size for size, _ in sizes), sum(size for _, size in sizes)
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        quantised=0 if is_quantised(network.config) else sum(map(_multiplied, linear.values())),
        largest=max((module.weight.numel() for module in linear.values()), default=0),
        adapter=lora.rank * (inputs + outputs) + (outputs if lora.variant == "dora" else 0),
        layers=layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        inputs=inputs,
        outputs=outputs,
        middles=lora.rank * len(sizes),
        norms=sum(_norms(network, config)),
        attention=layers * _attention(config),
        gates=layers * _gates(config),
    )


def is_quantised(config: Any) -> bool:
    """Whether a base comes in few bits: it can't be quantised once more."""
    return bool(getattr(config, "quantization_config", None))


def _is_target(name: str, targets: Sequence[str]) -> bool:
    return any(target == ALL_LINEAR or f".{name}".endswith(f".{target}") for target in targets)


def _size(module: Any) -> tuple[int, int]:
    """Inputs and outputs of a layer."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    if isinstance(module, torch.nn.Embedding):
        return 0, module.embedding_dim
    return module.in_features, module.out_features


def _multiplied(module: Any) -> int:
    """Elements of a matrix that is multiplied with, and not looked up in."""
    return 0 if isinstance(module, torch.nn.Embedding) else int(module.weight.numel())


def _norms(network: Any, config: Any) -> Iterator[int]:
    for name, module in network.named_modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            width = module.weight.numel()
            heads = PER_HEAD.get(name.rpartition(".")[2])
            yield width * (_number(config, heads) if heads and width == _head(config) else 1)


def _attention(config: Any) -> int:
    heads = _number(config, "num_attention_heads")
    groups = _number(config, "num_key_value_heads") or heads
    return 2 * _head(config) * (heads + groups)


def _head(config: Any) -> int:
    return _number(config, "head_dim") or config.hidden_size // _number(config, "num_attention_heads")


def _gates(config: Any) -> int:
    """Of the perceptron that one token passes; of as many experts as it passes."""
    experts = _number(config, "num_experts_per_tok") * _number(config, "moe_intermediate_size")
    shared = _number(config, "shared_expert_intermediate_size")
    return experts + shared if experts else _number(config, "intermediate_size") or 4 * config.hidden_size


def _number(config: Any, name: str) -> int:
    return int(getattr(config, name, None) or 0)

"""What makes a training fast, chosen by model and device, and applied to the loaded model.

A model that is not in the list is trained by LLaMA-Factory as it is.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.train.attention import NAME, Attention, register, suits
from lorafinetune_stages.train.fp8 import quantise_layers
from lorafinetune_stages.train.fused_lora import adapt_layers

log = logging.getLogger(__name__)

MODEL_TYPES: Final = frozenset({"glm", "glm4", "llama", "mistral", "qwen2", "qwen3"})
"""Layers in `model.layers`, attention through transformers' registry, and a head without a scale."""
COMPILED_MULTIPLE: Final = 64
"""Matrix products like it, and padding stays below a hundredth."""
PLAIN_VARIANTS: Final = ("lora", "rslora")
"""Adapters of two matrix products, which compile."""
MIXED: Final = {"bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16"}
"""The type of what is not in FP8, by the spec's precision: torch's names, where that is not its own type."""


@dataclass(frozen=True)
class Optimizations:
    """attention: see the module of that name. sparse_loss: logits only where something is learned.
    compiled: layers and loss by torch.compile. multiple: of which the length of a pack is one.
    mixed: type that torch.autocast computes in; empty for none. cast: adapters get their input as it is,
    and autocast makes copies of their fp32 weights in that type. fp8: the frozen layers' products are in
    FP8, while everything else is `mixed`. graphed: layers are launched as CUDA graphs."""

    attention: Attention = "each"
    sparse_loss: bool = True
    compiled: bool = False
    multiple: int = 1
    mixed: str = ""
    cast: bool = False
    fp8: bool = False
    graphed: bool = False

    def facts(self) -> dict[str, Any]:
        """For log and lineage."""
        return asdict(self)


def can_pack(config: Any, cutoff_length: int) -> bool:
    """Whether conversations of a model can be packed. config: transformers', of the text model."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return config.model_type in MODEL_TYPES and (window is None or window >= cutoff_length)


def check_packing(training: Training, config: Any) -> None:
    """Raises StageError where steps of tokens are asked for, and a model's conversations can't be packed."""
    if training.packing == "tokens" and not can_pack(config, training.cutoff_length):
        raise StageError(
            Reason.CONFIG_INVALID,
            f"training.packing: tokens is not known to suit a model of type {config.model_type} with "
            f"training.cutoffLength {training.cutoff_length}",
            "Set `spec.training.packing: auto`, with `batchSize` in place of `batchTokens`.",
        )


def choose(head: int, precision: str, variant: str, gpus: int, quantization: str = "none") -> Optimizations:
    """For packed conversations. head: width of an attention head. precision, variant, quantization: the
    spec's."""
    plain = variant in PLAIN_VARIANTS
    device = "cuda" if gpus else "cpu"
    fast = suits(device, precision, head)
    if gpus and not fast:
        log.warning("attention goes conversation by conversation: FlashAttention does not suit the device")
    if fast and quantization != "none":
        log.warning("layers are not compiled: that was not tried with a base in %s", quantization)
    compiled = fast and compiles(variant, quantization) and can_compile(device)
    return Optimizations(
        attention="varlen" if fast else "each",
        compiled=compiled,
        multiple=COMPILED_MULTIPLE if compiled else 1,
        mixed=MIXED.get(precision, ""),
        cast=plain and precision != "fp32",
        fp8=precision == "fp8",
        graphed=compiled and precision == "fp8",
    )


def compiles(variant: str, quantization: str) -> bool:
    """Whether layers are known to compile."""
    return variant in PLAIN_VARIANTS and quantization == "none"


def can_compile(device: str) -> bool:
    """Whether torch.compile does a small thing here. It needs a C compiler, Python's headers and a place for
    what it makes, and asks for each only when it compiles."""
    try:
        torch.compile(_double, dynamic=True)(torch.ones(8, device=device))
    except Exception as problem:  # whatever a compiler does wrong
        reason = next(iter(str(problem).splitlines()), "")
        log.warning("layers are not compiled, which costs a third of the speed: %s", reason)
        return False
    return True


def _double(values: Tensor) -> Tensor:
    return 2 * values


def apply(optimizations: Optimizations, model: Any) -> None:
    """model: a PeftModel. Raises RuntimeError where an optimization is not on after that."""
    base = model.get_base_model()
    register(optimizations.attention)
    base.set_attn_implementation(NAME)
    if base.config._attn_implementation != NAME:
        raise RuntimeError(f"{type(base).__name__} does not take an attention of ours")
    if optimizations.cast:
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.cast_input_dtype_enabled = False
    if optimizations.fp8:
        quantise_layers(base)
        adapt_layers(model)
    if optimizations.compiled:
        compile_layers(base)
    if optimizations.sparse_loss and not has_plain_head(base):
        log.warning("logits are made at all places, not at the learned ones alone")
    log.info("fast paths: %s", optimizations.facts())


def compile_layers(base: Any, **options: Any) -> None:
    """One program serves all layers and all lengths of packs. options: of torch.compile."""
    # A constant of the model, like a norm's epsilon, is none of what may change.
    torch._dynamo.config.specialize_float = True
    for layer in base.model.layers:
        layer.compile(dynamic=True, **options)


def has_plain_head(base: Any) -> bool:
    """Whether the head is a frozen matrix, so that its gradient is not needed."""
    head = base.lm_head
    return type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad

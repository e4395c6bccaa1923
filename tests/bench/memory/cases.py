"""Models, settings and cards whose memory is estimated and measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from lorafinetune.api.training import Lora, Training
from lorafinetune.contract.keys import resolved_packing, resolved_precision
from lorafinetune.contract.memory import MemorySettings
from lorafinetune_stages.shape import adaptable
from lorafinetune_stages.train.optimizations import Optimizations, choose

DTYPES: Final = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "nf4": torch.bfloat16,
}
"""That a base is made in; in the end it may be held in less."""
SHAPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "GLM-4-9B": {
        "model_type": "glm",
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "vocab_size": 151552,
        "attention_bias": True,
    },
    "Llama-3.1-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "Qwen2.5-7B": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
    "Qwen3-1.7B": {
        "model_type": "qwen3",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "SmolLM2-135M": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Case:
    """card: GiB of the card that the cap stands in for. rows, tokens: of one optimizer step, all as long."""

    model: str
    card: int
    rows: int
    tokens: int
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> Training:
        return Training.decode({"epochs": "1", **self.training})

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[MemorySettings.of(self.spec).weights]

    @property
    def optimizations(self) -> Optimizations | None:
        """Absent where rows are padded."""
        if resolved_packing(self.spec) == "none":
            return None
        sizes = SHAPES[self.model]
        head = sizes["hidden_size"] // sizes["num_attention_heads"]
        precision = resolved_precision(self.spec.precision)
        return choose(head, precision, self.spec.lora.variant, 1, self.spec.quantization)


PADDED: Final = {"packing": "none"}
PAIRS: Final = {"objective": "dpo", **PADDED}

CASES: Final = (
    Case("SmolLM2-135M", 8, 8, 1024),
    Case("Qwen2.5-7B", 40, 4, 1024, {"precision": "fp16"}),
    Case("GLM-4-9B", 24, 8, 2048),
    Case("GLM-4-9B", 79, 8, 1024),
    Case("Qwen3-1.7B", 48, 4, 1024, {"lora": {"variant": "dora"}}),
    Case("SmolLM2-135M", 4, 8, 2048, {"precision": "fp32", **PADDED}),
    Case("Qwen3-1.7B", 24, 8, 1024, PADDED),
    Case("Qwen3-1.7B", 16, 8, 2048, {"lora": {"rank": 64, "dropout": "0.1"}, **PADDED}),
    Case("Llama-3.1-8B", 48, 8, 1024, PADDED),
    Case("GLM-4-9B", 48, 8, 2048, PADDED),
    Case("GLM-4-9B", 79, 8, 1024, {"precision": "fp8"}),
    Case("GLM-4-9B", 12, 8, 2048, {"quantization": "nf4"}),
    Case("GLM-4-9B", 24, 8, 1024, {"quantization": "nf4"}),
    Case("Llama-3.1-8B", 40, 2, 1024, PAIRS),
    Case("Llama-3.1-8B", 24, 4, 512, PAIRS),
    Case("GLM-4-9B", 79, 4, 1024, PAIRS),
)


def flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        yield from flat(value) if isinstance(value, Mapping) else [(name, value)]


def network(name: str, device: str, dtype: torch.dtype, **changes: Any) -> Any:
    """A model with random weights on a device."""
    config = AutoConfig.for_model(**{**SHAPES[name], "use_cache": False, "pad_token_id": 0, **changes})
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def in_4_bits(base: Any) -> Any:
    """Its linear layers as bitsandbytes has them."""
    from bitsandbytes.nn import Linear4bit

    for name, linear in adaptable(base).items():
        sizes = (linear.in_features, linear.out_features, linear.bias is not None)
        layer = Linear4bit(*sizes, compute_dtype=torch.bfloat16, quant_type="nf4")
        layer.weight.data, layer.bias = linear.weight.data, linear.bias
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, layer.to(linear.weight.device))
    base.is_loaded_in_4bit = True  # PEFT asks for it
    return base


def adapted(base: Any, lora: Lora) -> Any:
    """With an adapter in fp32 on every linear layer."""
    targets = sorted({name.rpartition(".")[2] for name in adaptable(base)})
    model = get_peft_model(
        base,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=float(lora.dropout),
            target_modules=targets,
            use_dora=lora.variant == "dora",
        ),
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model

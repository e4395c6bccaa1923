"""The estimate of a training's memory beside what it takes: `python -m bench.memory`.

On a GPU the peak of real optimizer steps, through transformers' trainer and PEFT with random weights; a cap
on the allocator stands in for a smaller card, so what does not fit fails. Without a GPU, small models, and
the bytes that the forward pass keeps for the way back.
"""

import gc
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments, default_data_collator

from bench.results import Row, write_results
from lorafinetune.api.spec import Lora, Training
from lorafinetune.contract.memory import GIB, RESERVE, Cut, Settings, choose, per_token, usable
from lorafinetune_stages.shape import adaptable, measure

STEPS: Final = 2
DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
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


CASES: Final = (
    Case("SmolLM2-135M", 8, 8, 1024),
    Case("SmolLM2-135M", 4, 8, 2048, {"precision": "fp32"}),
    Case("Qwen3-1.7B", 24, 8, 1024),
    Case("Qwen3-1.7B", 16, 8, 2048, {"lora": {"rank": 64, "dropout": "0.1"}}),
    Case("Qwen3-1.7B", 48, 4, 1024, {"lora": {"variant": "dora"}}),
    Case("Llama-3.1-8B", 24, 8, 1024),
    Case("Llama-3.1-8B", 48, 8, 1024),
    Case("Qwen2.5-7B", 40, 4, 1024, {"precision": "fp16"}),
    Case("GLM-4-9B", 24, 8, 1024),
    Case("GLM-4-9B", 48, 8, 2048),
    Case("GLM-4-9B", 80, 8, 2048),
)


def main() -> None:
    write_results("memory", list(on_gpu() if torch.cuda.is_available() else on_cpu()))


def on_gpu() -> Iterator[Row]:
    """The peak of real steps; each case on the card that its cap stands in for."""
    for case in CASES:
        if case.card * GIB <= torch.cuda.get_device_properties(0).total_memory * 1.01:
            yield peak(case)
            gc.collect()
            torch.cuda.empty_cache()


def peak(case: Case) -> Row:
    """Raises torch.OutOfMemoryError where the cut that was chosen does not fit the card."""
    shape = measure(network(case.model, "meta", torch.bfloat16), case.spec.lora)
    settings = Settings.of(case.spec)
    cut = choose(shape, settings, (case.tokens,), case.rows, usable(case.card * GIB))
    if cut is None:
        raise SystemExit(f"{case} has no cut that fits")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (case.card * GIB - RESERVE) / total))
    torch.cuda.reset_peak_memory_stats()
    train(case, cut)
    return row(case, cut, torch.cuda.max_memory_allocated())


def row(case: Case, cut: Cut, measured: int) -> Row:
    estimated = cut.estimate.total
    return {
        "model": case.model,
        "settings": ", ".join(f"{name} {value}" for name, value in flat(case.training)) or "bf16, rank 8",
        "card GiB": case.card,
        "rows × tokens in a pass": f"{cut.micro_batch} × {case.tokens}",
        "checkpointing": "yes" if cut.gradient_checkpointing else "no",
        "estimate GiB": round(estimated / GIB, 2),
        "measured GiB": round(measured / GIB, 2),
        "estimate over measured %": round(100 * (estimated / measured - 1), 1),
    }


def flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        yield from flat(value) if isinstance(value, Mapping) else [(name, value)]


def network(name: str, device: str, dtype: torch.dtype, **changes: Any) -> Any:
    """A model with random weights on a device."""
    config = AutoConfig.for_model(**{**SHAPES[name], "use_cache": False, "pad_token_id": 0, **changes})
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


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


def train(case: Case, cut: Cut) -> None:
    """A few optimizer steps, cut as the train stage would cut them."""
    weights = Settings.of(case.spec).weights
    base = network(case.model, "cuda", DTYPES[weights])
    ids = torch.randint(0, SHAPES[case.model]["vocab_size"], (case.rows * STEPS, case.tokens))
    rows = [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in ids]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=cut.micro_batch,
            gradient_accumulation_steps=cut.accumulation,
            gradient_checkpointing=cut.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": True},
            bf16=weights == "bf16",
            fp16=weights == "fp16",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        if cut.gradient_checkpointing:
            base.enable_input_require_grads()
        model = adapted(base, case.spec.lora)
        Trainer(model, arguments, train_dataset=rows, data_collator=default_data_collator).train()


def on_cpu() -> Iterator[Row]:
    """What one more token keeps for the way back, of models with two small layers."""
    for name in SHAPES:
        for changes in ({}, {"precision": "fp32"}, {"lora": {"variant": "dora"}}):
            training = Training.decode({"epochs": "1", **changes})
            counted, estimated = kept_of_a_token(name, training)
            yield {
                "model": f"{name}, two small layers",
                "settings": ", ".join(f"{key} {value}" for key, value in flat(changes)) or "bf16, rank 8",
                "estimate bytes a token": round(estimated),
                "kept bytes a token": round(counted),
                "estimate over kept %": round(100 * (estimated / counted - 1), 1),
            }


SMALL: Final = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 64,
}


def kept_of_a_token(name: str, training: Training) -> tuple[float, float]:
    """Bytes that two layers keep of one token, counted and estimated; logits and embedding left out."""
    settings = Settings.of(training)
    counts = {layers: counted(name, training, settings, layers) for layers in (2, 4)}
    shape = measure(network(name, "meta", torch.float32, **SMALL), training.lora)
    return counts[4] - counts[2], per_token(shape, settings)


def counted(name: str, training: Training, settings: Settings, layers: int) -> float:
    """Bytes that the forward pass keeps of one token: from two lengths, so that nothing fixed counts."""
    small = SMALL | {"num_hidden_layers": layers}
    model = adapted(network(name, "cpu", DTYPES[settings.weights], **small), training.lora)
    return (kept(model, settings, 256) - kept(model, settings, 128)) / 128


def kept(model: Any, settings: Settings, tokens: int) -> int:
    """Bytes of all that is saved in a forward pass, but for the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    ids = torch.zeros((1, tokens), dtype=torch.int64)
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=settings.weights != "fp32")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), mixed:
        result = model(input_ids=ids, labels=ids, use_cache=False)
    size = sum(storage.nbytes() for storage in saved.values())
    del result
    return size


if __name__ == "__main__":
    main()

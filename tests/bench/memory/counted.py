"""What real layers with real adapters keep of a token, counted on the CPU, beside the estimate."""

from collections.abc import Iterator
from typing import Any, Final

import torch

from bench.memory.cases import DTYPES, SHAPES, adapted, flat, in_4_bits, network
from bench.results import Row
from lorafinetune.api.training import Training
from lorafinetune.contract.memory import MemorySettings, per_token
from lorafinetune_stages.shape import measure


def on_cpu() -> Iterator[Row]:
    """What one more token keeps for the way back, of models with two small layers."""
    for name in SHAPES:
        for changes in ({}, {"precision": "fp32"}, {"lora": {"variant": "dora"}}):
            training = Training.decode({"epochs": "1", **changes})
            counted, estimated = kept_of_a_token(name, training)
            yield {
                "model": f"{name}, two small layers",
                "settings": ", ".join(f"{key} {value}" for key, value in flat(changes)) or "as by default",
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
    settings = MemorySettings.of(training)
    counts = {layers: counted(name, training, settings, layers) for layers in (2, 4)}
    shape = measure(network(name, "meta", torch.float32, **SMALL), training.lora)
    return counts[4] - counts[2], per_token(shape, settings)


def counted(name: str, training: Training, settings: MemorySettings, layers: int) -> float:
    """Bytes that the forward pass keeps of one token: from two lengths, so that nothing fixed counts."""
    small = SMALL | {"num_hidden_layers": layers}
    base = network(name, "cpu", DTYPES[settings.weights], **small)
    model = adapted(in_4_bits(base) if settings.weights == "nf4" else base, training.lora)
    return (kept(model, settings, 256) - kept(model, settings, 128)) / 128


def kept(model: Any, settings: MemorySettings, tokens: int) -> int:
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

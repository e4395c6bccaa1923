"""A store with a model of GLM-4's shape and an adapter for it, both of random weights, at any depth.

Torch is imported where it is used: a plain copy of the files is measured too, without it.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.sources import Storage
from lorafinetune.api.status import ModelStatus, TrainingStatus
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.base import INDEX
from lorafinetune_stages.export.layout import Tensor, index_text, plan_shards
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest
from lorafinetune_stages.store.transfer import upload_tree
from lorafinetune_stages.train.output import adapter_artifact
from stages.train_builders import save_tokenizer

SOURCE: Final = "hf://example/random"
COMMIT: Final = "0" * 40
SHARD_BYTES: Final = 5 * 10**9
RANK: Final = 8
NOISE_ELEMENTS: Final = 2**24


@dataclass(frozen=True)
class Shape:
    """The sizes that give a GLM-4 its weights."""

    layers: int
    hidden: int = 4096
    intermediate: int = 13696
    vocabulary: int = 151552
    heads: int = 32
    groups: int = 2

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["GlmForCausalLM"],
            "model_type": "glm",
            "dtype": "bfloat16",
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "head_dim": self.head,
            "attention_bias": True,
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "eos_token_id": [2],
        }

    def linear(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of the layers that are tuned."""
        keys_and_values = self.groups * self.head
        shapes = {
            "mlp.down_proj": (self.hidden, self.intermediate),
            "mlp.gate_up_proj": (2 * self.intermediate, self.hidden),
            "self_attn.k_proj": (keys_and_values, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.v_proj": (keys_and_values, self.hidden),
        }
        return {
            f"model.layers.{number}.{name}": shape
            for number in range(self.layers)
            for name, shape in shapes.items()
        }

    def weights(self) -> dict[str, tuple[int, ...]]:
        """All weights of the model."""
        norms = ("input_layernorm", "post_attention_layernorm")
        layers = [f"model.layers.{number}." for number in range(self.layers)]
        biased = {"q_proj": self.hidden, "k_proj": self.groups * self.head, "v_proj": self.groups * self.head}
        return {
            "lm_head.weight": (self.vocabulary, self.hidden),
            "model.embed_tokens.weight": (self.vocabulary, self.hidden),
            "model.norm.weight": (self.hidden,),
            **{f"{name}.weight": shape for name, shape in self.linear().items()},
            **{f"{layer}{norm}.weight": (self.hidden,) for layer in layers for norm in norms},
            **{f"{layer}self_attn.{name}.bias": (size,) for layer in layers for name, size in biased.items()},
        }


def fill_store(root: Path, shape: Shape) -> ExportArguments:
    """What the export reads, in a directory that is a store. Returns its arguments."""
    store = DirectoryStore(root)
    model = put_model(store, shape)
    trained = put_adapter(store, root.with_name(f"{root.name}-adapter"), shape, model)
    return ExportArguments.decode(
        {
            "storage": Storage(uri=store.uri).encode(),
            "model": model.encode(),
            "trained": trained,
            "export": {"merged": {}},
        }
    )


def put_model(store: DirectoryStore, shape: Shape) -> ModelStatus:
    key = keys.source_key(SOURCE, COMMIT)
    where = place("models", key)
    files = [*_put_weights(store, where, shape), *_put_rest(store, where, shape)]
    manifest = commit_manifest(store, where, "models", key, files, {}, None)
    return ModelStatus(source=SOURCE, revision=COMMIT, digest=manifest.digest, bytes=manifest.bytes)


def put_adapter(store: DirectoryStore, scratch: Path, shape: Shape, model: ModelStatus) -> str:
    key = keys.digest([scratch.name, model.digest])
    where = place("trainings", key)
    _save_adapter(scratch / "adapter", shape)
    files = upload_tree(store, scratch, where)
    result = TrainResult(
        key=key, adapter=adapter_artifact(files, where), training=TrainingStatus(step=1, total_steps=1)
    )
    lineage = {"model": {"digest": model.digest}, "config": {"template": "glm4", "lora_rank": RANK}}
    commit_manifest(store, where, "trainings", key, files, lineage, result.encode())
    return key


def _put_weights(store: DirectoryStore, where: str, shape: Shape) -> Iterator[ManifestFile]:
    weights = sorted(shape.weights().items())
    sizes = [2 * math.prod(size) for _, size in weights]
    begins = accumulate(sizes, initial=0)
    tensors = [
        Tensor(name, "", begin, size, "BF16", tensor)
        for (name, tensor), begin, size in zip(weights, begins, sizes, strict=False)
    ]
    noise = memoryview(_noise())
    shards = plan_shards(tensors, SHARD_BYTES)
    for shard in shards:
        data = (chunk for tensor in shard.tensors for chunk in _repeated(noise, tensor))
        stored = store.put(f"{where}/{shard.name}", chain([shard.header()], data))
        yield ManifestFile(path=shard.name, size=stored.size, sha256=stored.sha256)
    if len(shards) > 1:
        stored = store.put(f"{where}/{INDEX}", [index_text(shards).encode()])
        yield ManifestFile(path=INDEX, size=stored.size, sha256=stored.sha256)


def _noise() -> bytes:
    import torch

    generator = torch.Generator().manual_seed(0)
    noise = (torch.randn(NOISE_ELEMENTS, generator=generator) * 0.02).to(torch.bfloat16)
    return bytes(noise.view(torch.uint8).numpy())


def _repeated(noise: memoryview, tensor: Tensor) -> Iterator[memoryview]:
    """The same noise again and again, so that a disk and not a generator of numbers is the limit."""
    for start in range(0, tensor.bytes, len(noise)):
        yield noise[: min(len(noise), tensor.bytes - start)]


def _put_rest(store: DirectoryStore, where: str, shape: Shape) -> Iterator[ManifestFile]:
    scratch = store.root.with_name(f"{store.root.name}-rest")
    scratch.mkdir()
    save_tokenizer(scratch)
    (scratch / "config.json").write_text(json.dumps(shape.config))
    yield from upload_tree(store, scratch, where)


def _save_adapter(directory: Path, shape: Shape) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)

    sizes = {
        f"base_model.model.{layer}.{part}.weight": size
        for layer, (outputs, inputs) in shape.linear().items()
        for part, size in (("lora_A", (RANK, inputs)), ("lora_B", (outputs, RANK)))
    }
    tensors = {name: torch.randn(size, generator=generator) * 0.02 for name, size in sizes.items()}
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted({layer.rpartition(".")[2] for layer in shape.linear()}),
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))

"""The merge that LLaMA-Factory makes, with the whole model in memory: for a model that can't be streamed,
because its files name weights otherwise than its modules, or because the adapter changes more than weights.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from llamafactory.train.tuner import export_model
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from lorafinetune_stages.export.weight_merge import BASE_LAYER, PREFIX, unmergeable
from lorafinetune_stages.store.manifest import ManifestFile

DTYPES: Final = ("bfloat16", "float16", "float32")


def merge_whole(base: Path, adapter: Path, template: str, output: Path) -> None:
    """Writes the merged model to `output`, in files of a gigabyte.

    Raises StageError(ModelUnsupported) where the adapter tunes what the base does not have, which PEFT would
    not say, or a weight that two layers share.
    """
    _check(base, tuned_layers(adapter))
    arguments = {
        "model_name_or_path": str(base),
        "adapter_name_or_path": str(adapter),
        "template": template,
        "finetuning_type": "lora",
        "infer_dtype": _dtype(base),
        "export_dir": str(output),
        "export_size": 1,
        "export_device": "cpu",
        "trust_remote_code": False,
    }
    try:
        export_model(arguments)
    except (RuntimeError, ValueError) as problem:
        if "allocate memory" in str(problem):
            raise MemoryError from problem
        raise unmergeable(f"is refused by LLaMA-Factory ({str(problem)[:300]})") from problem


def tuned_layers(adapter: Path) -> list[str]:
    """Names of the modules that the adapter changes, by an update of low rank or whole."""
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        bare = [name.removeprefix(PREFIX).replace(BASE_LAYER, "") for name in file.keys()]  # noqa: SIM118
    parts = [(name.partition(".lora_"), name.rpartition(".")) for name in bare]
    return sorted({update[0] if update[1] else whole[0] for update, whole in parts})


def manifest_files(directory: Path) -> list[ManifestFile]:
    """The files in it."""
    return [_described(path) for path in sorted(directory.iterdir()) if path.is_file()]


def _described(path: Path) -> ManifestFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ManifestFile(path=path.name, size=path.stat().st_size, sha256=digest)


def _check(base: Path, layers: Sequence[str]) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base, trust_remote_code=False))
    modules = dict(model.named_modules())
    if missing := [layer for layer in layers if layer not in modules]:
        raise unmergeable(f"tunes {missing[0]}, which the base model does not have")
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    shared = [layer for layer in layers if modules[layer] in ends] if model.config.tie_word_embeddings else []
    if shared:
        raise unmergeable(f"tunes {shared[0]}, whose weight another layer shares")


def _dtype(base: Path) -> str:
    """The type of the base, which the merged model keeps."""
    config: dict[str, Any] = json.loads((base / "config.json").read_text())
    named = config.get("dtype") or config.get("torch_dtype")
    return named if named in DTYPES else "auto"

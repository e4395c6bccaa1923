"""A store with a base model of any family and an adapter that PEFT has made for it, trained by nobody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorafinetune.api.status import TrainingStatus
from lorafinetune.contract.arguments import place
from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.store.manifest import commit_manifest
from lorafinetune_stages.store.transfer import upload_tree
from lorafinetune_stages.train.output import adapter_artifact
from stages.train_builders import (
    STORE,
    VOCABULARY,
    World,
    put_model,
    save_tokenizer,
    stand_in,
    train_arguments,
)

SIZES: Mapping[str, int] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def untrained(root: Path, family: str, shape: Mapping[str, Any], **lora: Any) -> World:
    """family: model type. shape: over SIZES. lora: of PEFT's configuration."""
    model = tiny(root / "base", family, shape)
    adapter(model, root / "output" / "adapter", **lora)
    store = stand_in(root)
    base = put_model(store, model)
    arguments = train_arguments(store, base, {})
    where = place("trainings", arguments.key)
    files = upload_tree(store, root / "output", where)
    result = TrainResult(
        key=arguments.key,
        adapter=adapter_artifact(files, f"{STORE}/{where}"),
        training=TrainingStatus(step=1, total_steps=1),
    )
    lineage = {"model": {"digest": base.digest}, "config": {"template": "smollm2"}}
    commit_manifest(store, where, "trainings", arguments.key, files, lineage, result.encode())
    return World(root, store, arguments)


def tiny(directory: Path, family: str, shape: Mapping[str, Any]) -> Path:
    """Saves a model of random weights in bf16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**SIZES, **shape})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def adapter(model: Path, directory: Path, **lora: Any) -> None:
    """Saves an adapter whose every tensor is random, so that each of them changes the merged model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    config = LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, **lora})
    tuned = get_peft_model(base, config)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                at = 1.0 if "magnitude" in name else 0.0
                parameter.data = torch.normal(at, 0.1, parameter.shape)
    tuned.save_pretrained(directory)

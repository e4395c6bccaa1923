"""The merged model's card: what it was made from. Nothing in it depends on the day."""

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.names import base_name, base_revision
from lorafinetune.contract.outcome import TrainResult

README: Final = "README.md"
FRONT_MATTER: Final = re.compile(rb"---\s*\n(.{0,65536}?)\n---\s*(\n|$)", re.DOTALL)
LICENCE_FIELDS: Final = ("license", "license_name", "license_link")
MAX_LICENCE_LENGTH: Final = 256
CARD: Final = """---
{head}---

# {title}, fine-tuned

The base model with a LoRA adapter merged into its weights. Each weight was summed in fp32 and rounded
once, to the base's type. Tokenizer, chat template, generation settings and licence are the base's own.

| | |
|---|---|
| base model | {base} |
| revision | `{commit}` |
| digest of the base's files | `{model_digest}` |
| digest of the adapter | `{adapter_digest}` |
| key of the training | `{trained}` |
| optimizer steps | {steps} |
{settings}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH OF THIS DIRECTORY")
model = AutoModelForCausalLM.from_pretrained("PATH OF THIS DIRECTORY", dtype="auto")
```
"""
SHOWN: Final = ("lora_rank", "lora_alpha", "learning_rate", "template")


def merged_card(
    model: ModelStatus, trained: TrainResult, config: Mapping[str, Any], base_card: bytes = b""
) -> str:
    """The text of the README. config: LLaMA-Factory's arguments from the training's lineage. base_card:
    README of the base, whose licence is the merged model's too."""
    return CARD.format(
        head=_front_matter(model, licence_fields(base_card)),
        title=base_name(model).rpartition("/")[2],
        base=base_name(model),
        commit=model.revision,
        model_digest=model.digest,
        adapter_digest=trained.adapter.digest,
        trained=trained.key,
        steps=trained.training.step,
        settings="\n".join(f"| {name} | {config[name]} |" for name in SHOWN if name in config),
    )


def licence_fields(card: bytes) -> dict[str, str]:
    """What a card's metadata say of the licence, by the hubs' names: `license` and, for one of its own,
    `license_name` and `license_link`. A card may hold anything."""
    found = FRONT_MATTER.match(card)
    try:
        fields = yaml.safe_load(found[1]) if found else {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in LICENCE_FIELDS if _is_line(fields.get(name))}


def _is_line(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_LICENCE_LENGTH


def _front_matter(model: ModelStatus, licence: Mapping[str, str]) -> str:
    hub = {"base_model": base_name(model), "base_model_relation": "finetune"} if base_revision(model) else {}
    fields = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    return yaml.safe_dump({**hub, **licence, **fields}, sort_keys=False, allow_unicode=True)

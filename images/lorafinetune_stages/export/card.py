"""The merged model's card: what it was made from. Nothing in it depends on the day."""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.names import base_name, base_revision
from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.licences import licence_fields

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


def _front_matter(model: ModelStatus, licence: Mapping[str, str]) -> str:
    hub = {"base_model": base_name(model), "base_model_relation": "finetune"} if base_revision(model) else {}
    fields = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    return yaml.safe_dump({**hub, **licence, **fields}, sort_keys=False, allow_unicode=True)

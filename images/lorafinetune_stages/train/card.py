"""The adapter's model card: what it was made from, and how to load it. Nothing in it depends on the day."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from lorafinetune.api.status import DatasetStatus, ModelStatus, TrainingStatus
from lorafinetune.api.training import Objective, Training
from lorafinetune.contract.keys import resolved_batch_size
from lorafinetune.contract.names import base_name, base_revision

SHOWN: Final = (
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_target",
    "use_rslora",
    "use_dora",
    "quantization_type",
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "max_steps",
    "cutoff_len",
    "template",
    "seed",
    "pref_beta",
)
COUNTED: Final[Mapping[Objective, str]] = {
    "sft": "conversations",
    "dpo": "pairs",
    "pt": "rows of text",
}

CARD: Final = """---
{head}---

# LoRA adapter for {title}

| | |
|---|---|
| base model | {base} |
| revision | `{commit}` |
| digest of the base's files | `{model_digest}` |
| training rows | {rows} |
| tokens in them, learned from | {tokens}, {learned} |
| digest of the prepared dataset | `{dataset_digest}` |
| {counted} in one optimizer step | {step} |
{settings}

`training.json` holds every setting.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({loaded}{revision})
base = AutoModelForCausalLM.from_pretrained({loaded}{revision}, dtype="auto")
model = PeftModel.from_pretrained(base, "PATH OF THIS DIRECTORY")
```
"""


def adapter_card(
    model: ModelStatus,
    dataset: DatasetStatus,
    config: Mapping[str, Any],
    training: Training,
    ended: TrainingStatus,
) -> str:
    """The text of the README. config: LLaMA-Factory's arguments, without paths. ended: the training at its
    end."""
    base, revision = base_name(model), base_revision(model)
    return CARD.format(
        head=_front_matter(base, revision is not None),
        title=base.rpartition("/")[2],
        base=base,
        loaded=f'"{base if revision else "PATH OF THE BASE MODEL"}"',
        revision=f', revision="{revision}"' if revision else "",
        commit=model.revision,
        model_digest=model.digest,
        rows=dataset.rows,
        tokens=dataset.tokens,
        learned=dataset.learned_tokens,
        dataset_digest=dataset.digest,
        counted="tokens" if training.batch_tokens else COUNTED[training.objective],
        step=f"at most {training.batch_tokens}" if training.batch_tokens else resolved_batch_size(training),
        settings="\n".join(f"| {name} | {value} |" for name, value in (*_ending(ended), *_settings(config))),
    )


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, config[name]) for name in SHOWN if name in config)


def _ending(ended: TrainingStatus) -> Iterator[tuple[str, str]]:
    if ended.stopped_early:
        yield "stopped early after step", f"{ended.step} of {ended.total_steps}"
    if ended.best_step:
        yield (
            "adapter of step, which has the lowest loss on held-out rows",
            f"{ended.best_step} of {ended.step}",
        )


def _front_matter(base: str, is_hub_id: bool) -> str:
    fields = {"library_name": "peft", "pipeline_tag": "text-generation", "tags": ["lora"]}
    return yaml.safe_dump(({"base_model": base} if is_hub_id else {}) | fields, sort_keys=False)

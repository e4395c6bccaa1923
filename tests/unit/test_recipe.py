"""The EmoLLM recipe against the arguments that its sample leads to: equal, or a listed difference."""

import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorafinetune.cli.document import read_resource
from lorafinetune.core.training import render

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "emollm-glm4.yaml"
PAGE = ROOT / "docs" / "how-to" / "emollm.md"

RECIPE: dict[str, Any] = {
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_target": "all",
    "template": "glm4",
    "cutoff_len": 2048,
    "max_samples": 1000,
    "overwrite_cache": True,
    "preprocessing_num_workers": 16,
    "logging_steps": 10,
    "plot_loss": True,
    "overwrite_output_dir": True,
    "save_strategy": "epoch",
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1.0e-4,
    "num_train_epochs": 10.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "fp16": True,
    "do_eval": False,
    "val_size": 0.1,
    "per_device_eval_batch_size": 1,
    "eval_strategy": "steps",
    "eval_steps": 10,
    "output_dir": "saves/emo-glm4-epoch10/lora/sft",
}
"""The recipe's own table, as it is run by hand."""

DIFFERENCES: dict[str, tuple[Any, str]] = {
    "max_samples": (None, "prepare takes the rows after merging; LLaMA-Factory would take them per file"),
    "overwrite_cache": (None, "there is no cache of LLaMA-Factory's: prepared data has a content address"),
    "preprocessing_num_workers": (None, "prepare tokenises; the training reads what it left"),
    "logging_steps": (1, "every step is in the loss curve; it costs nothing and changes no result"),
    "overwrite_output_dir": (None, "every attempt has a fresh directory"),
    "save_strategy": ("no", "checkpoints go to the store, by our own callback"),
    "per_device_train_batch_size": (None, "batchSize is 8 on any number of cards; the stage splits it"),
    "gradient_accumulation_steps": (None, "batchSize is 8 on any number of cards; the stage splits it"),
    "warmup_ratio": (None, "transformers 5 spells it `warmup_steps: 0.1`"),
    "fp16": (False, "the model is bf16, and fp16 gave a loss of 0 to some users of GLM-4"),
    "do_eval": (None, "it has no effect beside `eval_strategy: steps`"),
    "val_size": (None, "prepare splits, so that the same rows are held out in every attempt"),
    "output_dir": (None, "a path of the stage's own"),
}
"""Each difference from the recipe, with what stands in its place and the reason."""

ADDED = {
    "trust_remote_code": (False, "the model is the native `-hf` twin; no remote code runs"),
    "report_to": ("none", "nothing is reported outside"),
    "include_num_input_tokens_seen": ("non_padding", "tokens a second count useful tokens"),
    "lora_rank": (8, "LLaMA-Factory's default, which the recipe relies on"),
    "lora_alpha": (16, "LLaMA-Factory's default, which the recipe relies on"),
    "lora_dropout": (0.0, "LLaMA-Factory's default, which the recipe relies on"),
    "use_rslora": (False, "LLaMA-Factory's default, which the recipe relies on"),
    "use_dora": (False, "LLaMA-Factory's default, which the recipe relies on"),
    "bf16": (True, "the model is bf16"),
    "mask_history": (False, "answers in `history` are learned, as the recipe's text says"),
    "train_on_prompt": (False, "LLaMA-Factory's default, which the recipe relies on"),
    "warmup_steps": (0.1, "transformers 5 spells the ratio so"),
    "weight_decay": (0.0, "transformers' default, which the recipe relies on"),
    "max_grad_norm": (1.0, "transformers' default, which the recipe relies on"),
    "seed": (42, "transformers' default, which the recipe relies on"),
}
"""What the recipe leaves to defaults is said here, so that it can't drift with a version."""

BEYOND: dict[str, tuple[Any, str, str]] = {
    "model.source": (
        "modelscope://ZhipuAI/glm-4-9b-chat-hf",
        "`ZhipuAI/glm-4-9b-chat`",
        "the same weights without remote code: transformers has the model itself",
    ),
    "datasets.0.system": (
        "现在你是一个心理专家，我有一些心理问题，请你用专业的知识帮我解决。",
        "written to the rows, and ignored in training",
        "the list of datasets names no column for it, so LLaMA-Factory reads none; here it is learned under",
    ),
    "datasets.8.system": (
        None,
        "the row's own is dropped",
        "a role-play row keeps its own system prompt, and is learned under it",
    ),
    "training.learnFrom": (
        "allTurns",
        "only the last answer",
        "there is no column for `history` either; the recipe's text says that all are learned",
    ),
    "training.packing": (
        "auto",
        "one conversation at a time, in eight passes",
        "the conversations of a step follow one another without padding: same order, same loss, faster",
    ),
    "training.evaluation.fraction": (
        "0.1",
        "the loss is a mean of means of single rows",
        "the loss is over all held-out tokens that are learned: it depends on no batch size",
    ),
    "export.publish.0.to": (
        "modelscope://emollm/glm-4-9b-emollm",
        "published by hand",
        "the name begins as the licence of GLM-4 asks, and its text travels along",
    ),
    "export.publish.0.visibility": ("private", "as the hub has it", "a person makes it public, on purpose"),
}
"""Differences that are in no argument, by field: its value in the sample, what is done by hand, and why."""

FILES = [
    "single_turn_dataset_1.json",
    "single_turn_dataset_2.json",
    "self_cognition_EmoLLM.json",
    "ruozhiba_raw.jsonl",
    "data.json",
    "data_pro.json",
    "multi_turn_dataset_1.json",
    "multi_turn_dataset_2.json",
    "aiwei.json",
    "tiangou.json",
    "SoulStar_data.json",
    "mother_v2.json",
    "scientist.json",
]


def test_the_arguments_are_the_recipes_or_a_listed_difference() -> None:
    rendered = render(read_resource(SAMPLE).spec)
    expected = RECIPE | {name: value for name, (value, _) in (DIFFERENCES | ADDED).items()}
    assert rendered == {name: value for name, value in expected.items() if value is not None}


def test_every_difference_is_one() -> None:
    same = [name for name, (value, _) in DIFFERENCES.items() if RECIPE[name] == value]
    assert same == []


def test_what_differs_beyond_arguments_is_in_the_sample() -> None:
    spec = read_resource(SAMPLE).spec.encode()
    found = {path: reduce(_inner, path.split("."), spec) for path in BEYOND}
    assert found == {path: value for path, (value, _, _) in BEYOND.items()}


def test_the_page_tells_every_difference() -> None:
    told = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert told == [
        *(_row(f"`{path}`", _shown(value), hand, why) for path, (value, hand, why) in BEYOND.items()),
        *(_row(f"`{name}`", _shown(RECIPE[name]), _shown(v), why) for name, (v, why) in DIFFERENCES.items()),
        *(_row(f"`{name}`", _shown(value), why) for name, (value, why) in ADDED.items()),
    ]


def test_every_step_by_hand_has_its_place_in_the_sample() -> None:
    steps = re.findall(r"^\| \d\..* \| (.*) \|$", PAGE.read_text(), flags=re.MULTILINE)
    places = [place for step in steps[1:] for place in re.findall(r"`([a-zA-Z0-9.]+)`", step)]
    spec = read_resource(SAMPLE).spec.encode()
    assert len(steps) == 7
    assert [place for place in places if not reduce(_inner, place.split("."), spec)] == []


def _inner(value: Any, name: str) -> Any:
    return value[int(name)] if isinstance(value, list) else value.get(name)


def _shown(value: Any) -> str:
    return "–" if value is None else f"`{yaml.safe_dump(value, allow_unicode=True).partition(chr(10))[0]}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def test_the_datasets_are_merged_in_the_recipes_order() -> None:
    sources = [dataset.source.rpartition("/")[2] for dataset in read_resource(SAMPLE).spec.datasets]
    assert sources == FILES


def test_cleaning_and_system_prompts_are_the_recipes() -> None:
    spec = read_resource(SAMPLE).spec
    cleaned = [d.source.rpartition("/")[2] for d in spec.datasets if d.clean.remove == ("🐳",)]
    own_system = [d.source.rpartition("/")[2] for d in spec.datasets if d.system is None]
    assert cleaned == FILES[:2]
    assert own_system == [*FILES[2:4], *FILES[8:]]
    assert {d.clean.drop_intro_line for d in spec.datasets[:2]} == {"好，我是"}


def test_the_merged_model_has_the_recipes_shards() -> None:
    export = read_resource(SAMPLE).spec.export
    assert export.merged is not None
    assert export.merged.max_shard_size == "2GB"


def test_the_merged_model_is_published_where_the_recipe_publishes_it() -> None:
    spec = read_resource(SAMPLE).spec
    (target,) = spec.export.publish
    connection = next(c for c in spec.connections if c.name == target.connection)
    assert target.to.startswith("modelscope://")
    assert connection.secret_ref is not None
    assert target.visibility == "private"


def test_the_name_begins_as_the_licence_of_the_base_asks() -> None:
    (target,) = read_resource(SAMPLE).spec.export.publish
    assert target.to.rpartition("/")[2].startswith("glm-4")


@pytest.mark.parametrize("name", sorted(p.name for p in SAMPLE.parent.glob("*.yaml")))
def test_every_sample_is_valid_and_plain_yaml(name: str) -> None:
    path = SAMPLE.with_name(name)
    assert read_resource(path).metadata.name == yaml.safe_load(path.read_text())["metadata"]["name"]

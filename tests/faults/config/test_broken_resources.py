"""Broken resources: `lorafinetune validate` refuses each with its field and a hint, and no traceback."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from builders import document
from lorafinetune.cli.program import main

BAD_INPUT = 64
DEADLINE_SECONDS = 60


def training(**fields: Any) -> dict[str, Any]:
    return {"training": fields}


def lora(**fields: Any) -> dict[str, Any]:
    return training(lora=fields)


def extra(**arguments: str) -> dict[str, Any]:
    return training(extraArgs=arguments)


def nodes(count: int) -> dict[str, Any]:
    return {"resources": {"train": {"nodes": count}}}


def gpu(**fields: Any) -> dict[str, Any]:
    return {"resources": {"train": {"gpu": fields}}}


def dataset(**fields: Any) -> dict[str, Any]:
    return {"datasets": [{"source": "s3://data/rows.json", **fields}]}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    # what is missing
    "no datasets": ({"datasets": []}, "spec.datasets: must not be empty"),
    "no model": ({"model": None}, "spec.model: is required"),
    "no storage": ({"storage": None}, "spec.storage: is required"),
    "neither epochs nor steps": (training(epochs=None), "spec.training: give epochs or maxSteps"),
    "epochs and steps": (training(maxSteps=5), "spec.training: give epochs or maxSteps, not both"),
    # numbers that can't work
    "a float where floats are banned": (training(learningRate=1e-4), "must be a string"),
    "a learning rate of zero": (training(learningRate="0"), "learningRate must be above 0"),
    "a learning rate of a hundred": (
        training(learningRate="100"),
        "learningRate must be above 0, and at most 1",
    ),
    "a learning rate that is negative": (
        training(learningRate="-1e-4"),
        "spec.training.learningRate: must be",
    ),
    "a learning rate that is no number": (
        training(learningRate="fast"),
        "spec.training.learningRate: must be",
    ),
    "a learning rate that is not a number": (
        training(learningRate="nan"),
        "spec.training.learningRate: must be",
    ),
    "no epoch at all": (training(epochs="0"), "epochs must be above 0"),
    "more epochs than anyone waits for": (
        training(epochs="1e7"),
        "epochs must be above 0, and at most 1000000",
    ),
    "epochs as a number": (
        training(epochs=3),
        'spec.training.epochs: must be a string, not 3 (quote it: "3")',
    ),
    "an empty batch": (training(batchSize=0), "spec.training.batchSize: must be at least 1, not 0"),
    "a batch of a million": (training(batchSize=10**6), "spec.training.batchSize: must be at most 65536"),
    "a batch in quotes": (training(batchSize="8"), "spec.training.batchSize: must be a whole number"),
    "a cutoff of nothing": (training(cutoffLength=1), "spec.training.cutoffLength: must be at least 16"),
    "a cutoff of a billion": (
        training(cutoffLength=10**9),
        "spec.training.cutoffLength: must be at most 1048576",
    ),
    "more warm-up than training": (training(warmupRatio="1.5"), "spec.training.warmupRatio: must be"),
    "a seed below zero": (training(seed=-1), "spec.training.seed: must be at least 0"),
    "a number with a line end": (training(warmupRatio="0.1\n"), "spec.training.warmupRatio: must be"),
    "a rank of zero": (lora(rank=0), "spec.training.lora.rank: must be at least 1"),
    "a rank of a million": (lora(rank=10**6), "spec.training.lora.rank: must be at most 1024"),
    "dropout of everything and more": (lora(dropout="2"), "spec.training.lora.dropout: must be"),
    "no layers": (lora(targets=[]), "spec.training.lora.targets: must not be empty"),
    "layers by a pattern": (lora(targets=[".*"]), "spec.training.lora.targets[0]: must be"),
    "half a graphics card": (gpu(count=0.5), "spec.resources.train.gpu.count: must be a whole number"),
    "a card's memory without a unit that exists": (
        gpu(memory="24GB"),
        "spec.resources.train.gpu.memory: must be",
    ),
    "more cards than a step has rows": (gpu(count=16), "spec.resources.train.gpu.count: must divide"),
    "more nodes than a step has rows": (nodes(16), "spec.resources.train.nodes: nodes times gpu.count must"),
    "no node": (nodes(0), "spec.resources.train.nodes: must be at least 1"),
    # choices that do not exist
    "another precision": (training(precision="int8"), "spec.training.precision: must be one of"),
    "another scheduler": (training(scheduler="polynomial"), "spec.training.scheduler: must be one of"),
    "another variant": (lora(variant="qlora"), "spec.training.lora.variant: must be one of"),
    "another format": (dataset(format="parquet"), "spec.datasets[0].format: must be one of"),
    "a choice in capitals": (training(precision="BF16"), "did you mean bf16?"),
    # names that nobody knows
    "a field in another spelling": (training(learning_rate="1e-4"), "did you mean learningRate?"),
    "a field of another place": (training(cutoffLength=64, rank=8), "spec.training.rank: unknown field"),
    "a connection that is not there": (
        {"model": {"source": "hf://owner/model", "connection": "hub"}},
        "names a connection that is not in spec.connections",
    ),
    "a dataset's connection that is not there": (dataset(connection="x"), "spec.datasets: a dataset names a"),
    # places that can't be
    "a model by its bare name": ({"model": {"source": "glm-4-9b"}}, "spec.model.source: must be hf://"),
    "a model from any web server": ({"model": {"source": "https://x/y"}}, "spec.model.source: must be hf://"),
    "a model on the machine": (
        {"model": {"source": "file:///m"}},
        "spec.model.source: file:///m is for local",
    ),
    "a way out of the prefix": (
        {"storage": {"uri": "s3://bucket/../other"}},
        "spec.storage.uri: has the part . or ..",
    ),
    "a template of a path": (
        {"model": {"source": "hf://a/b", "template": "../x"}},
        "spec.model.template: must be",
    ),
    # contradictions
    "a share of bad rows that is never asked for": (
        dataset(maxBadFraction="0.1"),
        "maxBadFraction needs onBadRow: skip",
    ),
    "held-out rows that are all rows": (
        training(evaluation={"fraction": "1"}),
        "fraction must be above 0, and below 1",
    ),
    "decomposed weights that are not there": (
        training(precision="fp8", lora={"variant": "dora"}),
        "spec.training.precision: fp8 does not go with lora.variant: dora",
    ),
    "8-bit floats for padded rows": (
        training(precision="fp8", packing="none"),
        "spec.training.precision: fp8 needs packing: auto or tokens",
    ),
    "four bits and eight": (
        training(quantization="nf4", precision="fp8"),
        "spec.training.quantization: nf4 computes in bf16 or fp16",
    ),
    "decomposed weights in four bits": (
        training(quantization="nf4", lora={"variant": "dora"}),
        "spec.training.quantization: nf4 does not go with lora.variant: dora",
    ),
    "steps of tokens, and nobody knows how many": (
        training(packing="tokens"),
        "spec.training.packing: packing: tokens needs batchTokens",
    ),
    "steps of rows and of tokens": (
        training(packing="tokens", batchTokens=4096, batchSize=8),
        "spec.training.batchSize: give batchSize or batchTokens, not both",
    ),
    "steps that the longest row is too long for": (
        training(packing="tokens", batchTokens=1024, cutoffLength=2048),
        "spec.training.batchTokens: batchTokens must be at least cutoffLength",
    ),
    "pairs for another objective": (
        dataset(format="preference"),
        "a format does not go with training.objective: preference is for dpo, text for pt",
    ),
    "conversations for an objective that learns texts": (
        {**dataset(format="alpaca"), **training(objective="pt")},
        "a format does not go with training.objective: preference is for dpo, text for pt",
    ),
    "an objective that is not there": (training(objective="kto"), "spec.training.objective: must be one of"),
    "a beta of nothing": (
        training(objective="dpo", dpo={"beta": "0"}),
        "spec.training.dpo.beta: beta must be above 0",
    ),
    "a beta where there are no pairs": (
        training(dpo={"beta": "0.1"}),
        "spec.training.dpo: dpo needs objective: dpo",
    ),
    "dropout that would be passed over": (
        training(objective="dpo", lora={"dropout": "0.1"}),
        "spec.training.lora.dropout: objective: dpo computes without dropout",
    ),
    "publishing what is not merged": (
        {"export": {"publish": [{"to": "hf://a/b"}]}},
        "publish needs merged",
    ),
    # extra arguments: each class of refusal
    "a path": (extra(output_dir="/x"), "output_dir: is not allowed: it names a file or a directory"),
    "a configuration of DeepSpeed": (
        extra(deepspeed="ds.json"),
        "deepspeed: is not allowed: it names a file",
    ),
    "a hub to push to": (extra(push_to_hub="true"), "push_to_hub: is not allowed: it names a host, a hub"),
    "a credential": (
        extra(hf_hub_token="x"),
        "hf_hub_token: is not allowed: it names a host, a hub or a cred",
    ),
    "remote code": (extra(trust_remote_code="true"), "trust_remote_code: is not allowed: it can run code"),
    "a reporter": (extra(report_to="wandb"), "report_to: is not allowed: it sends data to a tracker"),
    "a webhook": (extra(swanlab_lark_webhook_url="http://x"), "is not allowed: it sends data to a tracker"),
    "another packing": (extra(neat_packing="true"), "neat_packing: is not allowed: it shapes the rows"),
    "a micro-batch": (
        extra(per_device_train_batch_size="1"),
        "has a field of its own. Set `spec.training.batchSize`",
    ),
    "Unsloth": (extra(use_unsloth="true"), "use_unsloth: is not allowed: the stage chooses it"),
    "another precision by name": (
        extra(pure_bf16="true"),
        "pure_bf16: is not allowed: `spec.training.precision`",
    ),
    "checkpoints of the trainer": (
        extra(save_only_model="true"),
        "save_only_model: is not allowed: the stage itself",
    ),
    "full fine-tuning": (extra(finetuning_type="full"), "finetuning_type: is not allowed: LoRA with a plain"),
    "reinforcement": (extra(stage="ppo"), "stage: has a field of its own. Set `spec.training.objective`"),
    "new tokens": (extra(resize_vocab="true"), "resize_vocab: is not allowed: it changes the base model"),
    "a loss that depends on the card": (
        extra(label_smoothing_factor="0.1"),
        "is not allowed: its loss depends",
    ),
    "pictures": (extra(image_max_pixels="1"), "image_max_pixels: is not allowed: images, videos and sound"),
    "an argument in another spelling": (extra(neftune_alpha="5"), "did you mean neftune_noise_alpha?"),
    "an argument of another program": (
        extra(gpu_memory_utilization="1"),
        "LLaMA-Factory has no argument of this name",
    ),
    "an argument in capitals": (extra(OUTPUT_DIR="/x"), "every key must be an argument's name"),
    "noise that is no number": (extra(neftune_noise_alpha="a lot"), "must be a number from 0 to 1000"),
    "noise beyond all bounds": (extra(neftune_noise_alpha="1e9"), "must be a number from 0 to 1000"),
    "an optimizer that is not there": (extra(optim="adamw_bnb_8bit"), "optim: must be one of adafactor"),
}

TEXTS: dict[str, tuple[str, str]] = {
    "an empty file": ("", "is empty"),
    "a list": ("- a\n- b\n", "holds a list"),
    "two documents": ("a: 1\n---\nb: 2\n", "2"),
    "broken YAML": ("spec: [\n", "tune.yaml:"),
    "a tab for an indent": ("spec:\n\tmodel: x\n", "tune.yaml:2"),
    "a field given twice": ("kind: A\nkind: B\n", "tune.yaml:2"),
    "an object of Python": ("spec: !!python/object/apply:os.system [ls]\n", "tune.yaml:1"),
    "names that double and double": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "tune.yaml:",
    ),
    "brackets without end": ("a: " + "[" * 5000 + "\n", "tune.yaml:"),
    "another kind": ("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n", "LoRAFineTune"),
}


def validate(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["lorafinetune", "validate", str(path)])
    with pytest.raises(SystemExit) as exited:
        main()
    captured = capsys.readouterr()
    return int(exited.value.code or 0), captured.out + captured.err


def refused(code: int, said: str, expected: str) -> None:
    assert code == BAD_INPUT
    assert expected in said
    assert "Traceback" not in said
    assert re.match(r"\S*tune\.yaml:", said)


@pytest.mark.timeout(DEADLINE_SECONDS)
@pytest.mark.parametrize("sentence", REFUSED)
def test_a_broken_resource(
    sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, expected = REFUSED[sentence]
    path = tmp_path / "tune.yaml"
    path.write_text(json.dumps(document(spec), indent=1))
    refused(*validate(path, monkeypatch, capsys), expected)


@pytest.mark.timeout(DEADLINE_SECONDS)
@pytest.mark.parametrize("sentence", TEXTS)
def test_a_broken_file(
    sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = TEXTS[sentence]
    path = tmp_path / "tune.yaml"
    path.write_text(text)
    refused(*validate(path, monkeypatch, capsys), expected)


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) + len(TEXTS) >= 50

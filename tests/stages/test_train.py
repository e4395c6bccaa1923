"""Trainings of a tiny model through the whole stage, and what they leave in the store.

LLaMA-Factory and what it imports warn of their own affairs, so here warnings are no errors.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.contract.outcome import TrainResult
from lorafinetune_stages.store.manifest import files_digest
from stages.train_builders import ROWS, World, random_rows, tiny_model, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    """A training that was evaluated every second step."""
    made = world(tmp_path_factory.mktemp("trained"), evaluation={"fraction": "0.2", "everySteps": 2})
    return made, made.train()


def test_the_output_is_the_adapter_its_card_the_curve_and_answers(
    trained: tuple[World, TrainResult],
) -> None:
    made, _ = trained
    assert [file.path for file in made.manifest().files] == [
        "adapter/README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/training.json",
        "answers.json",
        "held_out.json",
        "loss.png",
        "metrics.jsonl",
    ]
    assert (made.place / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_digest_of_the_adapter_is_that_of_its_files_alone(trained: tuple[World, TrainResult]) -> None:
    made, result = trained
    files = tuple(
        file.model_copy(update={"path": file.path.removeprefix("adapter/")})
        for file in made.manifest().files
        if file.path.startswith("adapter/")
    )
    assert result.adapter.digest == files_digest(files)
    assert result.adapter.bytes == sum(path.stat().st_size for path in (made.place / "adapter").iterdir())
    assert result.adapter.uri == f"s3://bucket/runs/trainings/{made.arguments.key}/adapter"


def test_the_rows_are_mapped_into_memory_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorafinetune_stages.train.callback import TrainingCallback

    begin = TrainingCallback.on_train_begin
    mapped: list[str] = []

    def look(*given: Any, **named: Any) -> None:
        mapped.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if ".arrow" in line)
        begin(*given, **named)

    monkeypatch.setattr(TrainingCallback, "on_train_begin", look)
    world(tmp_path).train()
    assert [line for line in mapped if f"{tmp_path}/" in line and "/dataset/train/data-" in line]


def test_every_step_and_every_evaluation_is_in_the_metrics(trained: tuple[World, TrainResult]) -> None:
    made, result = trained
    rows = made.metrics()
    assert [(row["step"], "eval_loss" in row) for row in rows] == [
        (0, True),
        (1, False),
        (2, False),
        (2, True),
        (3, False),
        (4, False),
        (4, True),
        (5, False),
        (6, False),
        (6, True),
    ]
    assert result.training.step == result.training.total_steps == 6
    assert [point.step for point in result.training.recent] == [1, 2, 3, 4, 5, 6]
    assert float(result.training.loss or 0) == pytest.approx(rows[-2]["loss"], rel=1e-5)
    assert float(result.training.eval_loss or 0) == pytest.approx(rows[-1]["eval_loss"], rel=1e-5)
    assert float(result.training.base_eval_loss or 0) == pytest.approx(rows[0]["eval_loss"], rel=1e-5)


def test_the_training_learns(tmp_path: Path) -> None:
    made = world(tmp_path, rows=random_rows(2) * 4, epochs=None, maxSteps=12)
    made.train()
    losses = [row["loss"] for row in made.metrics()]
    assert losses[-1] < 0.8 * losses[0]


def test_the_progress_ends_with_the_last_step_and_checkpoint(trained: tuple[World, TrainResult]) -> None:
    made, _ = trained
    progress, size = made.progress(), made.manifest().bytes
    assert (progress.activity, progress.unit) == ("uploading the adapter", "bytes")
    assert (progress.done, progress.total) == (size, size)
    assert progress.training is not None
    assert progress.training.step == 6
    assert (progress.checkpoint_step, progress.checkpoint_attempt) == (6, 1)
    assert progress.gpu_seconds is not None
    assert (made.place / "checkpoints" / "6" / "1" / "manifest.json").is_file()


def test_the_adapter_is_fp32_and_names_its_base_by_hub_id_and_commit(
    trained: tuple[World, TrainResult],
) -> None:
    from safetensors.torch import load_file

    adapter = trained[0].place / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("example/tiny", "c0ffee")
    assert config["target_modules"] == sorted(config["target_modules"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}


def test_the_lineage_names_everything_that_shaped_the_training(trained: tuple[World, TrainResult]) -> None:
    made, _ = trained
    lineage = made.manifest().lineage
    model = made.arguments.model
    assert lineage["model"] == {"source": "example/tiny", "commit": "c0ffee", "digest": model.digest}
    assert lineage["prepared"]["key"] == made.arguments.prepared
    assert lineage["config"] == {**made.arguments.config, "template": "smollm2"}
    assert lineage["config"] == json.loads((made.place / "adapter" / "training.json").read_text())
    assert (lineage["batchSize"], lineage["plan"]["packTokens"], lineage["seed"]) == (4, 1024, 42)
    assert lineage["versions"]["llamafactory"] == "0.9.5"
    assert lineage["hardware"]["threads"] >= 1
    assert lineage["resumes"] == 0


def test_no_file_in_the_store_holds_a_path_of_the_machine(trained: tuple[World, TrainResult]) -> None:
    made, _ = trained
    names = [str(made.root), str(Path.home()), "/tmp/", "scratch-"]  # noqa: S108  # searched for, not used
    assert list(_holding(made.store.root.rglob("*"), names)) == []


def _holding(paths: Iterable[Path], names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for path in paths:
        data = path.read_bytes() if path.is_file() else b""
        yield from ((path.name, name) for name in names if name.encode() in data)


def test_the_same_training_in_another_store_has_the_same_digest(
    trained: tuple[World, TrainResult], tmp_path: Path
) -> None:
    made, result = trained
    again = made.copy(tmp_path)
    again.store.delete(f"trainings/{made.arguments.key}/checkpoints")
    repeated = again.train()
    assert repeated.adapter.digest == result.adapter.digest
    assert again.metrics() == made.metrics()
    assert _sha256(again.place / "loss.png") == _sha256(made.place / "loss.png")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_finished_training_is_found(trained: tuple[World, TrainResult]) -> None:
    made, result = trained
    assert made.train() == result.model_copy(update={"cache_hit": True})


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        pytest.param({"lora": {"variant": "dora"}}, ["lora_magnitude_vector"], id="DoRA has magnitudes"),
        pytest.param({"lora": {"variant": "rslora"}}, [], id="rank-stabilised LoRA"),
        pytest.param({"precision": "fp32"}, [], id="fp32"),
        pytest.param({"extraArgs": {"neftune_noise_alpha": "5"}}, [], id="NEFTune"),
        pytest.param({"batchSize": 3}, [], id="an odd batch"),
    ],
)
def test_a_training_of_each_kind_ends_with_an_adapter(
    trained: tuple[World, TrainResult], fields: dict[str, Any], keys: list[str]
) -> None:
    from safetensors import safe_open

    made = trained[0].training(epochs=None, maxSteps=2, **fields)
    assert made.train().training.step == 2
    with safe_open(made.place / "adapter" / "adapter_model.safetensors", "pt") as tensors:
        for key in ["lora_A.weight", "lora_B.weight", *keys]:
            assert any(name.endswith(key) for name in tensors.keys()), key  # noqa: SIM118  # no mapping


def test_fp32_computes_in_fp32(trained: tuple[World, TrainResult]) -> None:
    """A base stored in bf16 would round every activation, and so give the loss of a bf16 training."""
    made, _ = trained
    losses = {}
    for precision in ("bf16", "fp32"):
        run = made.training(epochs=None, maxSteps=1, precision=precision, lora={"dropout": "0"})
        run.train()
        losses[precision] = run.metrics()[0]["loss"]
    exact = _first_loss_in_fp32(made)
    assert losses["fp32"] == pytest.approx(exact, rel=1e-6)
    assert losses["bf16"] != pytest.approx(exact, rel=1e-6)


def _first_loss_in_fp32(made: World) -> float:
    """Mean negative log-likelihood of the first batch's learned tokens, from the base's own logits."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(made.root / "tiny", dtype=torch.float32)
    sampler = torch.Generator()
    sampler.manual_seed(made.arguments.training.seed)
    order = torch.randperm(ROWS, generator=sampler).tolist()
    rows = [random_rows(ROWS)[index] for index in order[: made.arguments.training.batch_size]]
    nats, tokens = 0.0, 0
    for row in rows:
        logits = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        for position, label in enumerate(row["labels"][1:]):
            if label >= 0:
                nats -= float(logits[position, label])
                tokens += 1
    return nats / tokens


def test_the_held_out_loss_counts_every_learned_token_once(tmp_path: Path) -> None:
    """Two conversations of different lengths: a mean of their means would be another number."""
    import torch
    from transformers import LlamaForCausalLM

    from lorafinetune_stages.train.evaluation import evaluate
    from lorafinetune_stages.train.fit import Fit
    from lorafinetune_stages.train.plan import TrainingPlan
    from lorafinetune_stages.train.process_group import ALONE

    model = LlamaForCausalLM.from_pretrained(tiny_model(tmp_path / "tiny"), dtype=torch.float32)
    rows = random_rows(2, seed=5)
    plan = TrainingPlan(Fit(1, 1, False))
    assert len(rows[0]["input_ids"]) != len(rows[1]["input_ids"])
    alone = [evaluate(model, [row], lambda: False, plan, ALONE) for row in rows]
    both = evaluate(model, rows, lambda: False, plan, ALONE)
    assert both
    assert both.tokens == tuple(sum(label >= 0 for label in row["labels"]) for row in rows)
    assert both.nats == pytest.approx([each.nats[0] for each in alone if each])
    assert both.loss == pytest.approx(sum(both.nats) / sum(both.tokens))
    assert evaluate(model, rows, lambda: True, plan, ALONE) is None

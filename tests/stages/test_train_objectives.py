"""Pairs of answers and plain texts are learned as by LLaMA-Factory itself, whatever happens on the way."""

import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from lorafinetune.api.exports import Export
from lorafinetune.contract.outcome import TrainResult
from stages.test_train_resume import EVALUATION, cut, same_end
from stages.train_builders import ROWS, World, random_pairs, random_texts, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

LENGTH: Final = 24
EXACT: Final = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}, "precision": "fp32"}
MADE: Final[Mapping[str, Mapping[str, Any]]] = {
    "dpo": {"rows": random_pairs(ROWS), "held_out": random_pairs(3, seed=1), "lora": {"dropout": "0"}},
    "pt": {"rows": random_texts(ROWS), "held_out": random_texts(3, seed=1), "lora": {"dropout": "0.1"}},
}
"""Pairs are learned without dropout."""

Whole = tuple[World, TrainResult]


@pytest.fixture(scope="module", params=MADE)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A training of each objective that nobody interrupted, and that left a checkpoint after every step."""
    made = world(
        tmp_path_factory.mktemp(request.param),
        **MADE[request.param],
        objective=request.param,
        evaluation=EVALUATION,
        checkpoint={"every": 1, "keep": "all"},
    )
    return made, made.train()


@pytest.mark.parametrize("step", [1, 4], ids="after step {}".format)
def test_a_training_that_dies_goes_on_from_its_last_checkpoint(
    whole: Whole, tmp_path: Path, step: int
) -> None:
    same_end(cut(whole[0], tmp_path, step), whole)


def test_it_is_learned_reported_and_exported(whole: Whole) -> None:
    made, result = whole
    rows = [row for row in made.metrics() if "loss" in row]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert result.training.eval_loss is not None
    assert (made.place / "adapter" / "adapter_model.safetensors").is_file()
    assert made.export(Export.decode({"merged": {}})).merged is not None


def test_what_is_fast_is_on_for_texts_alone(whole: Whole) -> None:
    made, _ = whole
    optimizations = made.manifest().lineage["plan"]["optimizations"]
    objective = made.arguments.training.objective
    assert made.manifest().lineage["config"]["stage"] == objective
    assert (optimizations is None) == (objective == "dpo")


def own_losses(made: World, **changes: Any) -> tuple[list[float], list[float]]:
    """Of LLaMA-Factory's run alone: of the steps, and on the held-out rows, one by one, after the second."""
    from datasets import load_from_disk
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    class Log(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.state = state

    log = Log()
    dataset = made.store.root / "prepared" / made.arguments.prepared / "dataset"
    assert "validation" in load_from_disk(str(dataset))
    config = {
        **made.arguments.config,
        "template": "smollm2",
        "dataset": "prepared",
        "model_name_or_path": str(fp32(made.root / "tiny")),
        "tokenized_path": str(dataset),
        "output_dir": str(made.root / "peer"),
        "overwrite_output_dir": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "per_device_eval_batch_size": 1,
        "plot_loss": False,
        **({"val_size": 0.1} if made.arguments.training.evaluation else {}),  # its parser asks for one
        "use_cpu": True,
        **changes,
    }
    run_exp(config, callbacks=[log])
    rows = log.state.log_history
    return [row["loss"] for row in rows if "loss" in row], [
        row["eval_loss"] for row in rows if "eval_loss" in row
    ]


def fp32(model: Path) -> Path:
    """The same model, computed in fp32."""
    config = model / "config.json"
    config.write_text(config.read_text().replace("bfloat16", "float32"))
    return model


def our_losses(made: World) -> tuple[list[float], list[float]]:
    made.train()
    rows = made.metrics()
    return [row["loss"] for row in rows if "loss" in row], [
        row["eval_loss"] for row in rows if "eval_loss" in row and row["step"]
    ]


@pytest.mark.parametrize("objective", MADE)
def test_the_losses_are_those_of_llama_factory(tmp_path: Path, objective: str) -> None:
    """Its loss of texts is divided by all tokens, also the first of every row, which nothing predicts; so
    Adam, which is told of smaller gradients, steps a little otherwise."""
    fields: dict[str, Any] = {**MADE[objective], **EXACT, "evaluation": {"fraction": "0.1", "everySteps": 2}}
    made = world(tmp_path, **fields, objective=objective)
    ours, ours_held_out = our_losses(made)
    theirs, theirs_held_out = own_losses(made)
    counted = LENGTH / (LENGTH - 1) if objective == "pt" else 1
    assert ours == pytest.approx([loss * counted for loss in theirs], rel=1e-3)
    theirs_held_out = theirs_held_out[: len(ours_held_out)]  # at its end it evaluates once more
    assert ours_held_out == pytest.approx([loss * counted for loss in theirs_held_out], rel=1e-3)


def test_texts_that_are_not_packed_are_learned_by_llama_factory_as_it_is(tmp_path: Path) -> None:
    fields: dict[str, Any] = {**MADE["pt"], **EXACT, "packing": "none", "epochs": None, "maxSteps": 2}
    made = world(tmp_path, **fields, objective="pt")
    ours, _ = our_losses(made)
    theirs, _ = own_losses(made)
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_texts_are_learned_in_steps_of_tokens(tmp_path: Path) -> None:
    tokens: dict[str, Any] = {"packing": "tokens", "batchTokens": 3 * LENGTH, "batchSize": None}
    made = world(tmp_path, **{**MADE["pt"], **EXACT, **tokens}, objective="pt", epochs="1")
    assert made.train().training.step == -(-len(MADE["pt"]["rows"]) // 3)
    counts = [row["tokens"] for row in made.metrics()]
    assert counts[-1] == LENGTH * len(MADE["pt"]["rows"])


def test_a_model_that_is_its_base_prefers_nothing_and_learns_to(tmp_path: Path) -> None:
    """The loss begins at ln 2; on the pairs that are learned, the chosen answer wins in the end."""
    pairs = random_pairs(4)
    fields: dict[str, Any] = {"rows": pairs, "held_out": pairs, **EXACT, "evaluation": EVALUATION}
    made = world(tmp_path, **fields, objective="dpo", epochs="10")
    made.train()
    steps = [row for row in made.metrics() if "loss" in row]
    held_out = [row for row in made.metrics() if "eval_loss" in row]
    assert steps[0]["loss"] == pytest.approx(math.log(2))
    base = {"eval_loss": math.log(2), "eval_rewards/accuracies": 0}
    assert held_out[0] == {"step": 0, "epoch": 0, **base}
    assert steps[-1]["rewards/margins"] > 0
    assert held_out[-1]["eval_loss"] < math.log(2) / 2
    assert held_out[-1]["eval_rewards/accuracies"] == 1


def test_a_larger_beta_is_another_training(tmp_path: Path) -> None:
    made = world(tmp_path, **MADE["dpo"], objective="dpo", epochs=None, maxSteps=2)
    other = made.training(objective="dpo", lora={"dropout": "0"}, epochs=None, maxSteps=2, dpo={"beta": "5"})
    assert other.arguments.key != made.arguments.key
    assert our_losses(made)[0][1] != our_losses(other)[0][1]


def test_how_a_step_of_pairs_is_cut_changes_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine pairs in steps of six: in the second step one pass is smaller than the others."""
    from lorafinetune_stages.train import fit

    fields: dict[str, Any] = {**MADE["dpo"], **EXACT, "rows": random_pairs(9), "batchSize": 6}
    made = world(tmp_path, **fields, objective="dpo")
    losses = []
    for size in (1, 2, 6):
        monkeypatch.setattr(fit, "CPU_MICRO_BATCH", size)
        run = made.copy(tmp_path / str(size))
        losses.append(our_losses(run)[0])
        assert run.manifest().lineage["plan"]["microBatch"] == size
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


REPLACED: Final[Sequence[tuple[str, str, Sequence[str]]]] = [
    ("llamafactory.train.pt.workflow", "run_pt", ["data_collator = DataCollatorForLanguageModeling("]),
    ("llamafactory.train.pt.workflow", "run_pt", ["trainer = CustomTrainer(", "model = load_model("]),
    ("llamafactory.train.dpo.workflow", "run_dpo", ["from .trainer import CustomDPOTrainer"]),
    ("llamafactory.train.dpo.workflow", "run_dpo", ["trainer = CustomDPOTrainer("]),
    ("transformers.trainer", "Trainer", ["loss = loss / self.current_gradient_accumulation_steps"]),
    ("transformers.trainer", "Trainer", ["loss = self.compute_loss(model, inputs, num_items_in_batch="]),
    ("transformers.trainer", "Trainer", ["= self._get_num_items_in_batch(batch_samples, device)"]),
]


@pytest.mark.parametrize(("module", "name", "lines"), REPLACED)
def test_what_is_replaced_in_the_run_is_used_there(module: str, name: str, lines: Sequence[str]) -> None:
    import importlib

    source = inspect.getsource(getattr(importlib.import_module(module), name))
    assert [line for line in lines if line not in source] == []


def test_a_pair_is_weighed_by_what_a_batch_of_pairs_is() -> None:
    """A batch has both answers of each pair, the chosen ones first."""
    from llamafactory.train.dpo.trainer import CustomDPOTrainer

    source = inspect.getsource(CustomDPOTrainer)
    assert 'batch_size = batch["input_ids"].size(0) // 2' in source
    assert "self.model_accepts_loss_kwargs = False" in source
    assert "disable_dropout: bool = True" in source

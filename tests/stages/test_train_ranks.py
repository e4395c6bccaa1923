"""Several ranks of one training: they learn what one learns, and begin, go on, stop and fail together."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import ExitCode
from lorafinetune_stages.train.device import CPU_RANKS_VARIABLE
from stages.test_train_processes import Stage, is_at
from stages.train_builders import OVERFITTING, World, partly_known, random_rows, random_texts, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

EXACT: Mapping[str, Any] = {"lora": {"rank": 4, "alpha": 8, "dropout": "0"}, "precision": "fp32"}
EVALUATION = {"fraction": "0.2", "everySteps": 2}
STEPS = 24
SHORT_OF_MEMORY = """
import sys

if "lorafinetune_stages" in sys.orig_argv:
    import torch

    from lorafinetune_stages.train import fit, packed_trainer

    through = packed_trainer.pack_nats

    def pack_nats(base, pack, *others):
        if pack["input_ids"].shape[1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return through(base, pack, *others)

    fit.CPU_PACK_TOKENS, packed_trainer.pack_nats = 40, pack_nats
"""
"""What every Python begins with that finds it. It stands in for a GPU: torch's own error for a large pack."""


@pytest.fixture(autouse=True)
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the stages that are started; what trains in this process is one rank."""
    monkeypatch.setenv(CPU_RANKS_VARIABLE, "2")


def alone(made: World, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The log of the same training by one rank."""
    with monkeypatch.context() as patch:
        patch.delenv(CPU_RANKS_VARIABLE)
        made.train()
    return made.metrics()


def numbers(log: list[dict[str, Any]]) -> list[float]:
    """Of each row: the step, the tokens so far, and what was measured."""
    return [row[name] for row in log for name in row if name not in ("grad_norm", "epoch")]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="packed"),
        pytest.param({"batchSize": 3}, id="a last step that has one row for two"),
        pytest.param({"packing": "none"}, id="padded"),
        pytest.param({"packing": "tokens", "batchTokens": 48, "batchSize": None}, id="in steps of tokens"),
    ],
)
def test_two_ranks_learn_what_one_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    made = world(tmp_path / "one", evaluation=EVALUATION, **{**EXACT, **fields})
    together = made.copy(tmp_path / "two")
    with Stage(together, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.DONE
    assert numbers(together.metrics()) == pytest.approx(numbers(alone(made, monkeypatch)), rel=1e-5)
    for side in ("base", "tuned"):
        assert together.compared()[side] == pytest.approx(made.compared()[side], rel=1e-5)
    assert together.manifest().lineage["hardware"]["ranks"] == 2


def test_two_ranks_end_early_at_one_step_and_keep_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = {"earlyStopping": {"patience": 3}, "select": "best"}
    fields: dict[str, Any] = {**OVERFITTING, **EXACT, "checkpoint": checkpoint}
    made = world(tmp_path / "one", held_out=partly_known(), **fields)
    together = made.copy(tmp_path / "two")
    with Stage(together, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.DONE
        told = stage.result().training
    assert numbers(together.metrics()) == pytest.approx(numbers(alone(made, monkeypatch)), rel=1e-5)
    assert (told.step < told.total_steps, told.stopped_early) == (True, True)
    assert told.best_step == made.manifest().lineage["best"]["step"] == told.step - 3
    kept = together.state(told.best_step, "best")
    weights = "adapter_model.safetensors"
    assert (together.place / "adapter" / weights).read_bytes() == (kept / weights).read_bytes()


def test_two_ranks_learn_texts_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = random_texts(10)
    made = world(tmp_path / "one", rows=texts, held_out=texts[:3], objective="pt", packing="none", **EXACT)
    together = made.copy(tmp_path / "two")
    with Stage(together, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.DONE
    assert numbers(together.metrics()) == pytest.approx(numbers(alone(made, monkeypatch)), rel=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, str]:
    """A training of 24 steps by two ranks that nobody disturbed, with dropout, and its adapter's digest."""
    root = tmp_path_factory.mktemp("whole")
    made = world(root, epochs="8", checkpoint={"every": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CPU_RANKS_VARIABLE, "2")
        with Stage(made, root / "stage") as stage:
            assert stage.end() == ExitCode.DONE
            return made, stage.result().adapter.digest


def ranks_of(stage: Stage) -> list[int]:
    """Processes of the ranks, in their order."""
    task = Path(f"/proc/{stage.process.pid}/task/{stage.process.pid}/children")
    return sorted(int(pid) for pid in task.read_text().split())


def test_ranks_that_are_stopped_lost_and_killed_end_with_the_same_adapter(
    whole: tuple[World, str], tmp_path: Path
) -> None:
    made, digest = whole
    left = made.copy(tmp_path / "world")
    left.store.delete(f"trainings/{left.arguments.key}")
    with Stage(left, tmp_path / "stopped") as stage:
        stage.wait_until(is_at(3))
        stage.process.send_signal(signal.SIGTERM)
        assert stage.end() == ExitCode.STOPPED
        step = left.checkpoints()[-1]
        assert stage.error().message == f"saved a checkpoint at step {step} of {STEPS}"
    states = sorted(left.state(step).glob("rng_state*"))
    assert [path.name for path in states] == ["rng_state.pth", "rng_state_1.pth"]
    assert states[0].read_bytes() != states[1].read_bytes()
    with Stage(left, tmp_path / "lost") as stage:
        stage.wait_until(is_at(step + 3))
        os.kill(ranks_of(stage)[1], signal.SIGKILL)
        assert stage.end() == ExitCode.TEMPORARY
        assert stage.error().reason is Reason.RANK_LOST
        assert stage.error().message == "rank 1 of 2 was ended by SIGKILL, and left no message"
        assert stage.error().checkpoint == left.checkpoints()[-1]
    with Stage(left, tmp_path / "killed") as stage:
        stage.wait_until(is_at(left.checkpoints()[-1] + 3))
        ranks = ranks_of(stage)
        stage.process.kill()
        stage.process.wait()
    assert len(ranks) == 2
    with Stage(left, tmp_path / "again") as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result().adapter.digest == digest
    assert left.metrics() == made.metrics()
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def test_a_training_goes_on_with_another_number_of_ranks(
    whole: tuple[World, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it drops is drawn anew, the rest goes on."""
    left = whole[0].copy(tmp_path / "world")
    step = left.checkpoints()[-1]
    monkeypatch.setenv(CPU_RANKS_VARIABLE, "1")
    with Stage(left, tmp_path / "alone") as stage:
        assert stage.end() == ExitCode.DONE
        progress = stage.progress()
    assert progress is not None
    assert progress.resumed_from == step


def test_what_one_rank_finds_wrong_is_what_the_stage_says(tmp_path: Path) -> None:
    made = world(tmp_path / "world", lora={"targets": ["q_proj", "query"]})
    with Stage(made, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.BAD_INPUT
        assert stage.error().message == "training.lora.targets: no layer of the model is named 'query'"


def test_gpus_that_are_not_there_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    made = world(tmp_path / "world")
    asked = replace(made, arguments=made.arguments.model_copy(update={"gpus": 2}))
    with Stage(asked, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.BAD_INPUT
        assert stage.error().message == "resources.train.gpu.count: 2 GPUs are asked for, and torch sees none"


def test_ranks_whose_memory_does_not_do_all_begin_again_with_half_of_a_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHORT_OF_MEMORY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    made = world(tmp_path / "world", rows=random_rows(10, longest=20), held_out=random_rows(3, longest=20))
    with Stage(made, tmp_path / "stage") as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result().training.step == 6
    plan = made.manifest().lineage["plan"]
    assert (plan["packTokens"], plan["gradientCheckpointing"]) == (20, True)

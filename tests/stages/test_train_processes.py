"""The stage as a program of its own: what signals do to it, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    MESSAGE_VARIABLE,
    PROGRESS_VARIABLE,
    STORE_DIRECTORY_VARIABLE,
    WORKDIR_VARIABLE,
)
from lorafinetune.contract.outcome import ExitCode, Progress, StageError, TrainResult, decode_message
from stages.train_builders import World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

BOUND_SECONDS = 300
STEPS = 24
WITHOUT_TORCH = (
    "import sys; from lorafinetune_stages.__main__ import main; "
    "code = main(['train']); sys.exit(code or ('torch' in sys.modules))"
)

HANGS = """
import sys, threading
from lorafinetune_stages.__main__ import main
from lorafinetune_stages.train import callback, watchdog

begins = callback.TrainingCallback.on_step_begin

def hang(self, args, state, control, **rest):
    begins(self, args, state, control, **rest)
    if state.global_step == 5:
        threading.Event().wait()

watchdog.LEAST_SECONDS = 2.0
callback.TrainingCallback.on_step_begin = hang
sys.exit(main(["train"]))
"""
"""Its sixth step waits for ever, as for a GPU that does not answer; patience is short."""
HANGS_AT_THE_END = """
import sys, threading
from lorafinetune_stages.__main__ import main
from lorafinetune_stages.train import held_out_evaluation, watchdog

def hang(model, rows, stopped, *others):
    for _ in range(watchdog.FEWEST + 1):
        stopped()
    threading.Event().wait()

watchdog.LEAST_SECONDS = 2.0
held_out_evaluation.evaluate_held_out = hang
sys.exit(main(["train"]))
"""
"""As the fourth pass of its last evaluation does."""


class Stage:
    """`python -m lorafinetune_stages train` in a directory."""

    def __init__(self, made: World, directory: Path, code: str = "") -> None:
        directory.mkdir()
        self.made = made
        self.message = directory / "message"
        self.progress_file = directory / "progress"
        command = ["-c", code] if code else ["-m", "lorafinetune_stages", "train"]
        environment = {
            ARGUMENTS_VARIABLE: made.arguments.model_dump_json(by_alias=True, exclude_none=True),
            MESSAGE_VARIABLE: str(self.message),
            PROGRESS_VARIABLE: str(self.progress_file),
            STORE_DIRECTORY_VARIABLE: str(made.root / "buckets"),
            WORKDIR_VARIABLE: str(directory),
        }
        self.process = subprocess.Popen([sys.executable, *command], env=os.environ | environment)

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def progress(self) -> Progress | None:
        try:
            return Progress.model_validate_json(self.progress_file.read_text())
        except FileNotFoundError:
            return None

    def wait_until(self, holds: Callable[[Progress], bool]) -> None:
        deadline = time.monotonic() + BOUND_SECONDS
        while not ((progress := self.progress()) and holds(progress)):
            assert self.process.poll() is None, "the stage ended too early"
            assert time.monotonic() < deadline, "the stage is too slow"
            time.sleep(0.02)

    def end(self) -> int:
        return self.process.wait(BOUND_SECONDS)

    def result(self) -> TrainResult:
        result = decode_message("train", self.message.read_text())
        assert isinstance(result, TrainResult)
        return result

    def error(self) -> StageError:
        error = decode_message("train", self.message.read_text())
        assert isinstance(error, StageError)
        return error


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    """A training of 24 steps that ran in this process, and left checkpoints."""
    made = world(tmp_path_factory.mktemp("whole"), epochs="8", checkpoint={"every": 2})
    return made, made.train()


def fresh(whole: tuple[World, TrainResult], root: Path) -> World:
    made = whole[0].copy(root)
    made.store.delete(f"trainings/{made.arguments.key}")
    return made


def is_at(step: int) -> Callable[[Progress], bool]:
    return lambda progress: progress.activity == "training" and progress.done >= step


def test_a_killed_training_ends_with_the_same_adapter(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    made = fresh(whole, tmp_path / "world")
    with Stage(made, tmp_path / "killed") as stage:
        stage.wait_until(is_at(5))
        stage.process.send_signal(signal.SIGKILL)
        assert stage.end() == -signal.SIGKILL
    assert made.checkpoints()
    with Stage(made, tmp_path / "again") as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result().adapter.digest == whole[1].adapter.digest
        progress = stage.progress()
    assert progress is not None
    assert progress.resumed_from
    assert made.metrics() == whole[0].metrics()


def test_a_training_that_hangs_is_ended_and_goes_on_from_its_checkpoint(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    made = fresh(whole, tmp_path / "world")
    with Stage(made, tmp_path / "hung", HANGS) as stage:
        assert stage.end() == ExitCode.TEMPORARY
        assert stage.error().reason is Reason.STALLED
        assert stage.error().message.startswith("step 6 did not end in ")
        assert stage.error().checkpoint == 4
    assert made.checkpoints()[-1] == 4
    with Stage(made, tmp_path / "again") as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result().adapter.digest == whole[1].adapter.digest
        progress = stage.progress()
    assert progress is not None
    assert progress.resumed_from == 4


def test_an_evaluation_that_hangs_is_ended_and_the_training_goes_on_from_its_last_step(
    tmp_path: Path,
) -> None:
    made = world(tmp_path / "world", epochs=None, maxSteps=2, evaluation={"fraction": "0.2", "everySteps": 2})
    with Stage(made, tmp_path / "hung", HANGS_AT_THE_END) as stage:
        assert stage.end() == ExitCode.TEMPORARY
        assert stage.error().reason is Reason.STALLED
        assert stage.error().message.startswith("one of the passes of an evaluation of what is shipped did ")
        assert stage.error().checkpoint == 2
    with Stage(made, tmp_path / "again") as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result().training.eval_loss


def test_a_training_that_is_told_to_leave_says_so_after_its_checkpoint(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    made = fresh(whole, tmp_path / "world")
    with Stage(made, tmp_path / "stopped") as stage:
        stage.wait_until(is_at(3))
        stage.process.send_signal(signal.SIGTERM)
        assert stage.end() == ExitCode.STOPPED
        step = made.checkpoints()[-1]
        assert stage.error().message == f"saved a checkpoint at step {step} of {STEPS}"
    assert not (made.place / "manifest.json").exists()


def test_a_training_that_is_told_to_leave_while_it_starts_leaves_at_once(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    """In the middle of the imports, wherever that is."""
    made = fresh(whole, tmp_path / "world")
    with Stage(made, tmp_path / "stopped") as stage:
        stage.wait_until(lambda progress: progress.activity.startswith("downloading"))
        time.sleep(1)
        stage.process.send_signal(signal.SIGTERM)
        assert stage.end() == ExitCode.STOPPED
        assert stage.error().message == "the training was asked to stop before its first step"
    assert made.checkpoints() == []


def test_a_finished_training_is_found_without_torch(whole: tuple[World, TrainResult], tmp_path: Path) -> None:
    with Stage(whole[0], tmp_path / "hit", WITHOUT_TORCH) as stage:
        assert stage.end() == ExitCode.DONE
        assert stage.result() == whole[1].model_copy(update={"cache_hit": True})

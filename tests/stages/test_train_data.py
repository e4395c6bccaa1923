"""What a training reads dies under it: it ends with a reason within seconds, and its last checkpoint stays.

No process but the training itself reads rows, so none can be killed beside it: it maps the files of its
scratch disk. What the disk fails to give it there, for an error or as the file was cut, comes as SIGBUS.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import ExitCode, TrainResult
from lorafinetune_stages.train.device import CPU_RANKS_VARIABLE
from stages.test_train_processes import Stage, is_at
from stages.train_builders import World, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

WITHIN_SECONDS: Final = 60
CANNOT_BE_READ: Final = "/proc/self/mem"
"""Whoever reads from its beginning is told of an input/output error, as by a disk."""

Harm = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, TrainResult]:
    made = world(
        tmp_path_factory.mktemp("whole"),
        epochs="40",
        evaluation={"fraction": "0.2", "everySteps": 100},
        checkpoint={"every": 2},
    )
    return made, made.train()


def fresh(whole: tuple[World, TrainResult], root: Path) -> World:
    made = whole[0].copy(root)
    made.store.delete(f"trainings/{made.arguments.key}")
    return made


def cut(pattern: str) -> Harm:
    def harm(scratch: Path) -> None:
        for path in scratch.glob(pattern):
            os.truncate(path, 0)

    return harm


def overwrite(byte: bytes) -> Harm:
    """With so many bytes of the same kind, in place."""

    def harm(scratch: Path) -> None:
        for path in scratch.glob("dataset/train/*.arrow"):
            with path.open("r+b") as file:
                file.write(byte * path.stat().st_size)

    return harm


def unlink(scratch: Path) -> None:
    for path in scratch.glob("dataset/train/*.arrow"):
        path.unlink()


def remove(scratch: Path) -> None:
    shutil.rmtree(scratch / "dataset" / "validation")


def break_disk(scratch: Path) -> None:
    (path,) = scratch.glob("dataset/validation/state.json")
    path.unlink()
    path.symlink_to(CANNOT_BE_READ)


def harmed(stage: Stage, harm: Harm) -> int:
    """Stands still after a checkpoint while its scratch is harmed; then how it ends."""
    stage.wait_until(is_at(4))
    stage.process.send_signal(signal.SIGSTOP)
    assert children_of(stage) == []
    (scratch,) = stage.message.parent.glob("train-*")
    harm(scratch)
    stage.process.send_signal(signal.SIGCONT)
    return stage.process.wait(WITHIN_SECONDS)


def children_of(stage: Stage) -> list[str]:
    tasks = Path(f"/proc/{stage.process.pid}/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split()]


def goes_on(left: World, whole: tuple[World, TrainResult], step: int) -> None:
    assert left.train().adapter.digest == whole[1].adapter.digest
    assert left.progress().resumed_from == step


WORDS: dict[str, tuple[Harm, str]] = {
    "rows that are zeros": (overwrite(b"\0"), "dataset/train/data-00000-of-00001.arrow is not what was"),
    "rows that are anything": (overwrite(b"\xff"), "dataset/train/data-00000-of-00001.arrow is not what was"),
    "held-out rows that are gone": (remove, "(No such file or directory)"),
    "held-out rows that are cut": (
        cut("dataset/validation/*.arrow"),
        "data-00000-of-00001.arrow is not what",
    ),
    "a disk that answers with errors": (break_disk, "state.json can't be read any more (Input/output error)"),
}


@pytest.mark.parametrize("sentence", WORDS)
def test_a_training_says_that_it_read(
    whole: tuple[World, TrainResult], tmp_path: Path, sentence: str
) -> None:
    harm, words = WORDS[sentence]
    left = fresh(whole, tmp_path / "world")
    with Stage(left, tmp_path / "harmed") as stage:
        assert harmed(stage, harm) == ExitCode.TEMPORARY
        error = stage.error()
    assert (error.reason, error.checkpoint) == (Reason.DATA_UNREADABLE, left.checkpoints()[-1])
    assert words in error.message
    assert str(tmp_path) not in error.message


MAPPED: dict[str, str] = {
    "rows that are cut": "dataset/train/*.arrow",
    "weights that are cut, on a processor, which maps them": "model/*.safetensors",
}


@pytest.mark.parametrize("sentence", MAPPED)
def test_a_training_is_ended_at_once_by(
    whole: tuple[World, TrainResult], tmp_path: Path, sentence: str
) -> None:
    """It has no last words: the exit code has its reason, and the status its checkpoint."""
    left = fresh(whole, tmp_path / "world")
    with Stage(left, tmp_path / "harmed") as stage:
        assert harmed(stage, cut(MAPPED[sentence])) == -signal.SIGBUS
        assert not stage.message.exists()
    goes_on(left, whole, left.checkpoints()[-1])


def test_of_several_ranks_the_stage_says_what_ended_one(
    whole: tuple[World, TrainResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CPU_RANKS_VARIABLE, "2")
    left = fresh(whole, tmp_path / "world")
    with Stage(left, tmp_path / "harmed") as stage:
        stage.wait_until(is_at(4))
        (scratch,) = stage.message.parent.glob("train-*")
        cut("dataset/train/*.arrow")(scratch)
        assert stage.process.wait(WITHIN_SECONDS) == ExitCode.TEMPORARY
        error = stage.error()
    assert (error.reason, error.checkpoint) == (Reason.DATA_UNREADABLE, left.checkpoints()[-1])
    assert "SIGBUS" in error.message


def test_rows_whose_names_alone_are_gone_are_read_to_the_end(
    whole: tuple[World, TrainResult], tmp_path: Path
) -> None:
    left = fresh(whole, tmp_path / "world")
    with Stage(left, tmp_path / "harmed") as stage:
        assert harmed(stage, unlink) == ExitCode.DONE
        assert stage.result().adapter.digest == whole[1].adapter.digest

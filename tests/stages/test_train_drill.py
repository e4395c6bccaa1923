"""One training that is disturbed more than twenty times, and damaged in between, ends as one that nobody
disturbed, to the bit.

Each attempt is a process of its own. A seed decides what happens to it, and when; the very moment is chance.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.nursery import Nursery, is_alive
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    MESSAGE_VARIABLE,
    PROGRESS_VARIABLE,
    STORE_DIRECTORY_VARIABLE,
    WORKDIR_VARIABLE,
)
from lorafinetune.contract.outcome import Progress, Result, StageError, TrainResult, decode_message
from lorafinetune_stages.train.fit import CPU_PACK_TOKENS
from stages.train_builders import ROWS, World, random_rows, world

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

SEED = 7
DISTURBANCES = 24
STEPS = 120
LONGEST = 600
"""Tokens of a row: four such rows do not fit one pass."""
OVERTAKEN = (5, 11, 17)
"""Disturbances at which a second attempt begins while the first is alive."""
LEAST_RESUMES, LEAST_HARMED = 15, 3
"""Of all that chance decides, so that it remains a drill."""
HELD_OUT = 500
"""Rows that take seconds to evaluate: time enough to hit that."""
BOUND_SECONDS = 300
EARLY = ("downloading the model and the dataset", "loading the model")


class Attempt:
    """A process that trains, in a directory of its own."""

    def __init__(self, nursery: Nursery, made: World, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._message, self._progress = directory / "message", directory / "progress"
        environment = {
            ARGUMENTS_VARIABLE: made.arguments.model_dump_json(by_alias=True, exclude_none=True),
            MESSAGE_VARIABLE: str(self._message),
            PROGRESS_VARIABLE: str(self._progress),
            STORE_DIRECTORY_VARIABLE: str(made.root / "buckets"),
            WORKDIR_VARIABLE: str(directory),
        }
        log = directory / "log"
        self._pid = nursery.start("lorafinetune_stages.__main__:main", [["train"]], environment, log)

    def send(self, number: signal.Signals) -> None:
        if is_alive(self._pid):
            os.kill(self._pid, number)

    def wait_until(self, holds: Callable[[Progress], bool]) -> None:
        """Or until it has ended."""
        wait_until(lambda: not is_alive(self._pid) or ((told := self._told()) is not None and holds(told)))

    def end(self) -> Result | StageError | None:
        """What it leaves behind; nothing where it was killed."""
        wait_until(lambda: not is_alive(self._pid))
        return decode_message("train", self._message.read_text()) if self._message.is_file() else None

    @property
    def is_resumed(self) -> bool:
        """Whether it was seen to go on from a checkpoint."""
        return bool((told := self._told()) and told.resumed_from)

    def _told(self) -> Progress | None:
        try:
            return Progress.model_validate_json(self._progress.read_text())
        except FileNotFoundError:
            return None


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def at_step(further: int) -> Callable[[Progress], bool]:
    """So many steps after the one at which it is seen to train."""
    begun: list[int] = []

    def holds(told: Progress) -> bool:
        if told.activity != "training":
            return False
        begun.append(told.done)
        return told.done >= begun[0] + further

    return holds


def at_the_end(told: Progress) -> bool:
    """In what follows the last step, once its checkpoint is there."""
    return told.checkpoint_step == STEPS


def early(activity: str) -> Callable[[Progress], bool]:
    """At an activity before the first step, or past it."""
    return lambda told: told.activity in (activity, "training")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage(made: World, random: Random) -> str:
    """Harms the newest checkpoint, if there is one, as a store might, or an upload that was cut."""
    steps = made.checkpoints()
    if not steps:
        return ""
    newest = made.state(steps[-1])
    harm = random.choice((flip, truncate, Path.unlink))
    files = sorted(path for path in newest.iterdir() if path.name != "manifest.json")
    path = random.choice([*files, newest / "manifest.json"])
    harm(path)
    if random.random() < 0.5:
        (newest / "manifest.json").unlink(missing_ok=True)
    return f"{harm.__name__} {path.name} of {steps[-1]}"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery("lorafinetune_stages.__main__", "lorafinetune_stages.train.launch") as nursery:
        yield nursery


def tokens_by_step(made: World) -> list[int]:
    totals = [row["tokens"] for row in made.metrics() if "tokens" in row]
    return [after - before for before, after in pairwise([0, *totals])]


def overtaken(nursery: Nursery, made: World, older: Attempt, directory: Path) -> Attempt:
    """A newer attempt, which began while an older one was frozen half-way: that one stops by itself."""
    older.wait_until(at_step(2))
    older.send(signal.SIGSTOP)
    newer = Attempt(nursery, made, directory)
    newer.wait_until(at_step(1))
    older.send(signal.SIGCONT)
    told = older.end()
    assert isinstance(told, StageError)
    assert told.reason is Reason.SUPERSEDED
    return newer


def test_a_training_that_is_disturbed_time_and_again_ends_as_if_it_had_not_been(
    nursery: Nursery, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {
        "epochs": None,
        "maxSteps": STEPS,
        "checkpoint": {"every": 2, "keep": 3},
        "evaluation": {"fraction": "0.2", "everySteps": STEPS // 2},
        "cutoffLength": LONGEST,
    }
    rows, held_out = (random_rows(number, seed, LONGEST) for seed, number in enumerate((ROWS, HELD_OUT)))
    made = world(tmp_path / "made", rows=rows, held_out=held_out, **fields)
    calm = made.copy(tmp_path / "calm")
    expected = Attempt(nursery, calm, tmp_path / "calm-attempt").end()
    assert isinstance(expected, TrainResult)
    assert max(tokens_by_step(calm)) > CPU_PACK_TOKENS  # which takes more than one pass

    random, happened, resumes = Random(SEED), list[tuple[str, bool, str]](), 0
    for number in range(DISTURBANCES):
        directory = tmp_path / f"attempt-{number}"
        attempt = Attempt(nursery, made, directory)
        if number in OVERTAKEN:
            attempt = overtaken(nursery, made, attempt, directory / "newer")
        is_early = number == 0 or random.random() < 0.2
        attempt.wait_until(early(random.choice(EARLY)) if is_early else at_step(random.randint(2, 5)))
        number_sent = random.choice((signal.SIGTERM, signal.SIGKILL))
        attempt.send(number_sent)
        told = attempt.end()
        assert not isinstance(told, Result), f"it ended after {happened}"
        assert told is None or told.reason is Reason.PREEMPTED
        resumes += attempt.is_resumed
        harmed = damage(made, random) if random.random() < 0.3 else ""
        happened.append((number_sent.name, is_early, harmed))

    for number_sent in (signal.SIGTERM, signal.SIGKILL):
        attempt = Attempt(nursery, made, tmp_path / number_sent.name)
        attempt.wait_until(at_the_end)
        attempt.send(number_sent)
        told = attempt.end()
        assert not isinstance(told, Result), f"{number_sent.name} came too late"
        assert (told is None) == (number_sent is signal.SIGKILL)
        assert made.checkpoints()[-1] == STEPS

    result = Attempt(nursery, made, tmp_path / "last").end()
    assert isinstance(result, TrainResult), result
    assert result.adapter.digest == expected.adapter.digest, happened
    assert made.metrics() == calm.metrics()
    assert (made.compared(), made.answers()) == (calm.compared(), calm.answers())
    assert result.resumes
    assert resumes >= LEAST_RESUMES, happened
    assert sum(bool(harmed) for _, _, harmed in happened) >= LEAST_HARMED, happened

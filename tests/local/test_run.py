"""`lorafinetune run` from the outside: what it leaves, what it finds again, and what can't harm it."""

import signal
import time
from pathlib import Path
from random import Random
from typing import Final

import pytest

from local.runs import Desk, desk, kill, like, stage_of
from lorafinetune.contract.outcome import Progress

pytestmark = pytest.mark.model

CHECKPOINTS: Final = "runs/test/trainings/*/checkpoints/*/manifest.json"
MOMENTS: Final = 25
"""Kills in all; some of the run, some of its stage."""
LONGEST_SECONDS: Final = 22
"""A little longer than a whole run takes, so that every stage is hit."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, str]:
    """A run in which nothing happened, and what it printed."""
    made = desk(tmp_path_factory.mktemp("calm"))
    code, out = made.finish()
    assert code == 0, out
    return made, out


def test_a_run_ends_with_adapter_merged_model_loss_curve_manifest_and_report(calm: tuple[Desk, str]) -> None:
    made, out = calm
    named = {line.rpartition(" ")[2] for line in out.splitlines()[-5:]}
    assert len(named) == 5
    assert [path for path in named if not Path(path).exists()] == []
    assert made.status()["stage"] == "Complete"


def test_a_second_run_finds_everything_in_the_store(calm: tuple[Desk, str]) -> None:
    made, _ = calm
    before = made.digests()
    code, out = made.finish()
    found = [f"{stage} was found in the store" for stage in ("download", "prepare", "train", "export")]
    assert code == 0
    assert [line for line in out.splitlines() if "found in the store" in line] == found
    assert made.digests() == before


def test_killed_at_any_moment_a_run_ends_with_the_same_artefacts(
    calm: tuple[Desk, str], tmp_path: Path
) -> None:
    random = Random(20261125)
    kills, folders = 0, 0
    while kills < MOMENTS:
        folders += 1
        made = like(calm[0], tmp_path / str(folders))
        for moment in range(MOMENTS):
            if kills >= MOMENTS or interrupted(made, random, moment) == "complete":
                break
            kills += 1
        code, out = made.finish()
        assert code == 0, out
        assert made.digests() == calm[0].digests()


def interrupted(made: Desk, random: Random, moment: int) -> str:
    """Starts a run and kills it, or its stage, at a random moment; says whether it was complete before."""
    runner = made.start()
    until = time.monotonic() + random.uniform(0.3, LONGEST_SECONDS)
    while time.monotonic() < until and runner.poll() is None:
        time.sleep(0.02)
    if runner.poll() is not None:
        runner.communicate()
        return "complete"
    if moment % 2 and (stage := stage_of(runner.pid)):
        kill(stage)
        time.sleep(random.uniform(0, 3))
    kill(runner.pid)
    runner.communicate()
    return "killed"


def test_ctrl_c_stops_after_a_checkpoint_and_the_same_command_goes_on(
    calm: tuple[Desk, str], tmp_path: Path
) -> None:
    made = like(calm[0], tmp_path)
    runner = made.start()
    wait_for_step(made, 30)
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=60)
    assert runner.returncode == 85
    assert "stopping after a checkpoint; interrupt again to end at once" in out
    newest = max(int(path.parent.name) for path in made.samples.parent.glob(CHECKPOINTS))
    assert out.splitlines()[-1] == f"stopped at step {newest}; the same command goes on from there"
    code, out = made.finish()
    assert code == 0, out
    assert made.digests() == calm[0].digests()


def wait_for_step(made: Desk, step: int) -> None:
    """Returns once the training has done so many steps."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for path in made.folder.glob("lorafinetune-runs/*/*/lft-train-*/progress.json"):
            if (
                training := Progress.model_validate_json(path.read_text()).training
            ) and training.step >= step:
                return
        time.sleep(0.05)
    raise AssertionError("the training does not begin")


def test_two_runs_of_one_resource_at_a_time_are_refused(calm: tuple[Desk, str], tmp_path: Path) -> None:
    made = like(calm[0], tmp_path)
    runner = made.start()
    lock = tmp_path / "lorafinetune-runs/team-a/tune/lock"
    until = time.monotonic() + 30
    while time.monotonic() < until and not (lock.exists() and lock.read_text()):
        time.sleep(0.05)
    code, out = made.finish()
    kill(runner.pid)
    runner.communicate()
    assert (code, out) == (75, f"tune is running already: it is run by process {runner.pid}\n")

"""`lorafinetune run` from the outside: what it leaves, what it finds again, and what can't harm it."""

import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Final

import pytest

from local.runs import BOUND_SECONDS, Desk, desk, kill, like, stage_of
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress

pytestmark = pytest.mark.model

CHECKPOINTS: Final = "runs/test/trainings/*/checkpoints/*/manifest.json"
MOMENTS: Final = 25
"""Kills in all, at least one in each stage."""
WAYS: Final = ("the run", "the stage", "the stage and then the run")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, str, float]:
    """A run in which nothing happened, what it printed, and the seconds that it took."""
    made = desk(tmp_path_factory.mktemp("calm"))
    began = time.monotonic()
    code, out = made.finish()
    assert code == 0, out
    return made, out, time.monotonic() - began


def test_a_run_ends_with_adapter_merged_model_loss_curve_manifest_and_report(
    calm: tuple[Desk, str, float],
) -> None:
    made, out, _ = calm
    named = {line.rpartition(" ")[2] for line in out.splitlines()[-5:]}
    assert len(named) == 5
    assert [path for path in named if not Path(path).exists()] == []
    assert made.status()["stage"] == "Complete"


def test_a_second_run_finds_everything_in_the_store(calm: tuple[Desk, str, float]) -> None:
    made, _, _ = calm
    before = made.digests()
    code, out = made.finish()
    found = [f"{stage} was found in the store" for stage in ("download", "prepare", "train", "export")]
    assert code == 0
    assert [line for line in out.splitlines() if "found in the store" in line] == found
    assert made.digests() == before


def test_killed_at_any_moment_a_run_ends_with_the_same_artefacts(
    calm: tuple[Desk, str, float], tmp_path: Path
) -> None:
    random, hit = Random(20261125), Counter[str]()
    while hit.total() < MOMENTS or not hit.keys() >= set(STAGES):
        made = like(calm[0], Path(mkdtemp(dir=tmp_path)))
        while stage := killed(made, random, calm[2]):
            hit[stage] += 1
        assert made.digests() == calm[0].digests()


def killed(made: Desk, random: Random, seconds: float) -> str:
    """Starts a run and kills it, or its stage, within so many seconds; says in which stage that was.
    Nothing where the run was complete before."""
    runner, way = made.start(), random.choice(WAYS)
    until = time.monotonic() + random.uniform(0.3, seconds)
    while time.monotonic() < until and runner.poll() is None:
        time.sleep(0.02)
    if runner.poll() is not None:
        out, _ = runner.communicate()
        assert runner.returncode == 0, out
        return ""
    if (stage := stage_of(runner.pid)) and way != "the run":
        kill(stage.pid)
        time.sleep(random.uniform(0, 3))
    if not (stage and way == "the stage"):
        kill(runner.pid)
    runner.communicate(timeout=BOUND_SECONDS)
    return stage.name if stage else "between stages"


def test_ctrl_c_stops_after_a_checkpoint_and_the_same_command_goes_on(
    calm: tuple[Desk, str, float], tmp_path: Path
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
    until = time.monotonic() + 240
    while time.monotonic() < until:
        for path in made.folder.glob("lorafinetune-runs/*/*/lft-train-*/progress.json"):
            if (
                training := Progress.model_validate_json(path.read_text()).training
            ) and training.step >= step:
                return
        time.sleep(0.05)
    raise AssertionError("the training does not begin")


def test_two_runs_of_one_resource_at_a_time_are_refused(
    calm: tuple[Desk, str, float], tmp_path: Path
) -> None:
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

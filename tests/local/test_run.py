"""`lorafinetune run` from the outside: what it leaves, what it finds again, and what can't harm it."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from subprocess import Popen
from typing import Final, NamedTuple

import pytest

from local.runs import BOUND_SECONDS, Desk, RunningStage, desk, frozen, kill, like, stage_of
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress

pytestmark = pytest.mark.model

CHECKPOINTS: Final = "runs/test/trainings/*/checkpoints/*/*/manifest.json"
ROWS: Final = "lorafinetune-runs/team-a/tune/lft-train-*/scratch/train-*/dataset/train/*.arrow"
SHELLS: Final = {
    str(Path(found).resolve()) for name in ("sh", "dash", "bash") if (found := shutil.which(name))
}
SEEDS: Final = (20261125, 20261126)
KILLS: Final[Mapping[StageName, int]] = {"download": 3, "prepare": 3, "train": 5, "export": 3}
"""With each of the seeds: one soon after the stage began, the others at any moment of it."""
SOON: Final = 0.3
WAS_COMPLETE: Final = "was complete"


class Calm(NamedTuple):
    """A run in which nothing happened, what it printed, and how many seconds each stage took."""

    desk: Desk
    out: str
    seconds: Mapping[str, float]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    made = desk(tmp_path_factory.mktemp("calm"))
    code, out = made.finish()
    assert code == 0, out
    return Calm(made, out, {stage["name"]: seconds_of(stage) for stage in made.status()["stages"]})


def seconds_of(stage: Mapping[str, str]) -> float:
    took = datetime.fromisoformat(stage["completionTime"]) - datetime.fromisoformat(stage["startTime"])
    return took.total_seconds()


def test_a_run_ends_with_adapter_merged_model_loss_curve_manifest_and_report(
    calm: Calm,
) -> None:
    made, out, _ = calm
    named = {line.rpartition(" ")[2] for line in out.splitlines()[-6:]}
    assert len(named) == 6
    assert [path for path in named if not Path(path).exists()] == []
    assert made.status()["stage"] == "Complete"
    (page,) = (path for path in named if path.endswith("reports/team-a/tune/en.html"))
    assert "No verdict" in Path(page).read_text()


def test_a_second_run_finds_everything_in_the_store(calm: Calm) -> None:
    made, _, _ = calm
    before = made.digests()
    code, out = made.finish()
    found = [f"{stage} was found in the store" for stage in ("download", "prepare", "train", "export")]
    assert code == 0
    assert [line for line in out.splitlines() if "found in the store" in line] == found
    assert made.digests() == before


def test_a_program_reads_what_a_run_has_made(calm: Calm, tmp_path: Path) -> None:
    apart = ("sh", "-c", 'exec "$@" 2> "$0"', str(tmp_path / "shown"))
    code, out = Desk(calm.desk.folder, apart).finish("-o", "json")
    told = json.loads(out)
    assert (code, told["metadata"]["name"]) == (0, "tune")
    assert told["status"] == calm.desk.status()
    assert [*calm.out.splitlines()[-6:]] == (tmp_path / "shown").read_text().splitlines()[-6:]


def test_a_run_needs_no_shell(calm: Calm, tmp_path: Path) -> None:
    """Who starts one, be it in C, is told that it may not be executed."""
    made = like(calm.desk, tmp_path)
    hidden = " && ".join(f"mount --bind /dev/null {shell}" for shell in sorted(SHELLS))
    made.surroundings = ("unshare", "--map-root-user", "--mount", "sh", "-c", f'{hidden} && exec "$@"', "sh")
    code, out = made.finish()
    assert code == 0, out
    logs = [path.read_text() for path in made.folder.glob("lorafinetune-runs/team-a/tune/*/log")]
    assert len(logs) == len(STAGES)
    assert not [line for line in "\n".join(logs).splitlines() if "Permission denied" in line]
    assert made.digests() == calm.desk.digests()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_any_moment_a_run_ends_with_the_same_artefacts(
    calm: Calm, tmp_path: Path, seed: int
) -> None:
    random, hit, made = Random(seed), Counter[str](), like(calm.desk, tmp_path)
    for stage, kills in KILLS.items():
        longest = (SOON, *(kills - 1) * (calm.seconds[stage],))
        hit.update(killed(made, random, stage, seconds) for seconds in longest)
    code, out = made.finish()
    assert code == 0, out
    assert made.digests() == calm.desk.digests()
    assert hit.keys() >= set(STAGES)
    assert hit.total() - hit[WAS_COMPLETE] >= 13


def test_a_run_whose_stages_are_killed_makes_them_anew(calm: Calm, tmp_path: Path) -> None:
    random, made = Random(SEEDS[0]), like(calm.desk, tmp_path)
    runner = made.start()
    for stage in STAGES:
        there = await_stage(runner, stage)
        assert there
        time.sleep(random.uniform(0, SOON))
        kill(there.pid)
    out, _ = runner.communicate(timeout=BOUND_SECONDS)
    assert runner.returncode == 0, out
    assert made.digests() == calm.desk.digests()


def test_a_run_whose_rows_are_cut_while_it_trains_on_them_goes_on_from_its_checkpoint(
    calm: Calm, tmp_path: Path
) -> None:
    made = like(calm.desk, tmp_path)
    runner = made.start()
    wait_for(made, lambda progress: bool(progress.checkpoint_step))
    (rows,) = made.folder.glob(ROWS)
    with frozen(runner.pid):
        os.truncate(rows, 0)
    out, _ = runner.communicate(timeout=BOUND_SECONDS)
    assert runner.returncode == 0, out
    assert "DataUnreadable: the stage was ended by SIGBUS" in out, out
    assert made.status()["resumes"] == 1
    assert made.digests() == calm.desk.digests()


def killed(made: Desk, random: Random, stage: StageName, longest: float) -> str:
    """Starts a run and kills it, and perhaps its stage before, within so many seconds after it came to the
    stage; says in which stage that was, or that there was nothing to do any more."""
    runner = made.start()
    if not await_stage(runner, stage):
        return WAS_COMPLETE
    there = stay(runner, stage, random.uniform(0, longest))
    if there and random.random() < 0.5:
        kill(there.pid)
        time.sleep(random.uniform(0, 1))
    kill(runner.pid)
    runner.communicate()
    return there.name if there else "between stages"


def stay(runner: Popen[str], stage: StageName, seconds: float) -> RunningStage | None:
    """What runs after so many seconds, or, as stages are not always equally fast, once the stage ended."""
    until = time.monotonic() + seconds
    while (there := stage_of(runner.pid)) and there.name == stage and time.monotonic() < until:
        time.sleep(0.02)
    return there


def await_stage(runner: Popen[str], stage: StageName) -> RunningStage | None:
    """The stage, or a later one, once it runs; None where the run ended before."""
    come = STAGES[STAGES.index(stage) :]
    while not (there := stage_of(runner.pid)) or there.name not in come:
        if runner.poll() is not None:
            return None
        time.sleep(0.02)
    return there


def test_ctrl_c_stops_after_a_checkpoint_and_the_same_command_goes_on(calm: Calm, tmp_path: Path) -> None:
    made = like(calm.desk, tmp_path)
    runner = made.start()
    wait_for_step(made, 30)
    runner.send_signal(signal.SIGINT)
    out, _ = runner.communicate(timeout=60)
    assert runner.returncode == 85
    assert "stopping after a checkpoint; interrupt again to end at once" in out
    newest = max(int(path.parent.parent.name) for path in made.samples.parent.glob(CHECKPOINTS))
    assert out.splitlines()[-1] == f"stopped at step {newest}; the same command goes on from there"
    code, out = made.finish()
    assert code == 0, out
    assert made.digests() == calm.desk.digests()


def wait_for_step(made: Desk, step: int) -> None:
    """Returns once the training has done so many steps."""
    wait_for(made, lambda progress: (progress.training.step if progress.training else 0) >= step)


def wait_for(made: Desk, is_so: Callable[[Progress], bool]) -> None:
    """Returns once the training tells of progress for which this holds."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        for path in made.folder.glob("lorafinetune-runs/*/*/lft-train-*/progress.json"):
            if is_so(Progress.model_validate_json(path.read_text())):
                return
        time.sleep(0.05)
    raise AssertionError("the training does not begin")


def test_two_runs_of_one_resource_at_a_time_are_refused(calm: Calm, tmp_path: Path) -> None:
    made = like(calm.desk, tmp_path)
    runner = made.start()
    lock = tmp_path / "lorafinetune-runs/team-a/tune/lock"
    until = time.monotonic() + 30
    while time.monotonic() < until and not (lock.exists() and lock.read_text()):
        time.sleep(0.05)
    code, out = made.finish()
    kill(runner.pid)
    runner.communicate()
    assert (code, out) == (75, f"tune is running already: it is run by process {runner.pid}\n")

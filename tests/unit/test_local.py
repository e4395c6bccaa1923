"""Secrets and the lock of local runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lorafinetune.local.child import RUNNER_VARIABLE
from lorafinetune.local.lock import AlreadyRunningError, run_lock
from lorafinetune.local.secrets import SecretMissingError, Secrets


def test_a_secret_is_a_file_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "token").write_text("abc\n")
    assert Secrets(tmp_path).get("s3", "token", optional=False) == "abc"


def test_an_optional_key_may_be_absent(tmp_path: Path) -> None:
    assert Secrets(tmp_path).get("s3", "token", optional=True) is None


def test_a_missing_key_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(SecretMissingError, match="Secret s3 has no key token: there is no file"):
        Secrets(tmp_path).get("s3", "token", optional=False)


def never() -> None:
    raise AssertionError("nothing is waited for")


def test_two_runs_of_one_resource_exclude_each_other(tmp_path: Path) -> None:
    with (
        run_lock(tmp_path / "lock", never),
        pytest.raises(AlreadyRunningError, match=f"run by process {os.getpid()}"),
        run_lock(tmp_path / "lock", never),
    ):
        pass


def test_the_lock_is_free_after_a_run(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path / "lock", never) as descriptor:
            assert descriptor > 2


def test_a_stage_that_outlives_its_run_is_waited_for(tmp_path: Path) -> None:
    """The child inherits the lock; its parent, whose pid stands in the file, is gone."""
    script = (
        "import os, subprocess, sys; from pathlib import Path; from lorafinetune.local.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1]), lambda: None) as lock:\n"
        "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1)'], pass_fds=(lock,))\n"
        "    os._exit(0)\n"
    )
    path = tmp_path / "lock"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    told: list[bool] = []
    with run_lock(path, lambda: told.append(True)):
        assert told == [True]


@pytest.mark.parametrize(
    ("runner", "expected"),
    [
        pytest.param(
            os.getppid, -signal.SIGTERM, id="it died before the stage listened for that: it is asked to stop"
        ),
        pytest.param(os.getpid, 64, id="it is alive: the stage begins, and lacks its name"),
    ],
)
def test_a_stage_of_a_runner(runner: Callable[[], int], expected: int) -> None:
    environment = {**os.environ, RUNNER_VARIABLE: str(runner())}
    command = [sys.executable, "-m", "lorafinetune.local.child"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == expected

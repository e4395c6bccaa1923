"""Jobs as child processes: the same environment, the same contract, the same exit codes.

It speaks in Job and Pod objects, so that the plan can't tell the two executors apart.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lorafinetune.contract.arguments import (
    CREDENTIAL_KEYS,
    MESSAGE_VARIABLE,
    PROGRESS_VARIABLE,
    STORE_DIRECTORY_VARIABLE,
)
from lorafinetune.contract.outcome import Progress
from lorafinetune.contract.times import rfc3339
from lorafinetune.core.jobs import SCRATCH, Object
from lorafinetune.local.child import RUNNER_VARIABLE
from lorafinetune.local.secrets import Secrets

DEFAULT_GRACE_SECONDS: Final = 30


@dataclass
class _Child:
    """One Job and its process."""

    job: Object
    process: subprocess.Popen[bytes]
    folder: Path
    started: datetime
    deadline: float
    ended: datetime | None = None
    leaving: bool = False
    expired: bool = False
    kill_at: float = float("inf")

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])


@dataclass
class Executor:
    """The Jobs of one local run. folder: holds logs, scratch and messages, by Job name."""

    folder: Path
    secrets: Secrets
    environment: Mapping[str, str]
    keep_open: tuple[int, ...] = ()
    _children: dict[str, _Child] = field(default_factory=dict)

    def create(self, job: Object) -> None:
        """Starts a Job. Raises SecretMissingError where a variable can't be filled."""
        folder = self.folder / job["metadata"]["name"]
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "scratch").mkdir(parents=True)
        container = job["spec"]["template"]["spec"]["containers"][0]
        process = subprocess.Popen(
            [sys.executable, "-m", "lorafinetune.local.child", *container["args"]],
            env=self._environment(container, folder),
            stdin=subprocess.DEVNULL,
            stdout=(folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self.keep_open,
        )
        seconds = job["spec"].get("activeDeadlineSeconds", float("inf"))
        child = _Child(job, process, folder, datetime.now(UTC), time.monotonic() + seconds)
        self._children[child.name] = child

    def delete(self, name: str) -> None:
        """Asks a Job to leave; it is gone once its process has ended, killed after its grace period."""
        child = self._children.get(name)
        if child is None or child.leaving:
            return
        child.leaving = True
        spec = child.job["spec"]["template"]["spec"]
        self._ask_to_leave(child, spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))

    def kill(self) -> None:
        """Ends every process at once."""
        for child in self._children.values():
            _signal(child, signal.SIGKILL)
            child.process.wait()

    def objects(self) -> tuple[list[Object], list[Object]]:
        """The Jobs and the Pods as the API server would show them now."""
        self._poll()
        children = self._children.values()
        return [_job_object(child) for child in children], [_pod_object(child) for child in children]

    def progress(self) -> dict[str, Progress]:
        """The latest progress of the running Jobs, by name."""
        return {name: found for name, child in self._children.items() if (found := _progress(child))}

    def log_file(self, name: str) -> Path:
        """Where the output of a Job is."""
        return self.folder / name / "log"

    def wait(self, seconds: float) -> None:
        """Returns when a process has ended, or after this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(_just_ended(child) for child in self._children.values()):
            time.sleep(0.05)

    def _environment(self, container: Object, folder: Path) -> dict[str, str]:
        given = dict(self._variables(container, folder))
        return {**self.environment, **given} | {
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONUNBUFFERED": "1",
            RUNNER_VARIABLE: str(os.getpid()),
            MESSAGE_VARIABLE: str(folder / "message"),
            PROGRESS_VARIABLE: str(folder / "progress.json"),
        }

    def _variables(self, container: Object, folder: Path) -> Iterator[tuple[str, str]]:
        for variable in container["env"]:
            if "value" in variable:
                value = variable["value"]
                yield variable["name"], str(folder / "scratch") if value == SCRATCH else value
                continue
            reference = variable["valueFrom"]["secretKeyRef"]
            optional = bool(reference.get("optional")) or self._needs_no(reference["key"])
            secret = self.secrets.get(reference["name"], reference["key"], optional)
            if secret is not None:
                yield variable["name"], secret

    def _needs_no(self, key: str) -> bool:
        """A directory that stands in for S3 asks for no credentials."""
        return key in CREDENTIAL_KEYS and STORE_DIRECTORY_VARIABLE in self.environment

    def _poll(self) -> None:
        for child in list(self._children.values()):
            if child.ended is None and child.process.poll() is not None:
                child.ended = datetime.now(UTC)
                shutil.rmtree(child.folder / "scratch", ignore_errors=True)
            if child.ended and child.leaving:
                del self._children[child.name]
            if child.ended is None:
                self._enforce_limits(child)

    def _enforce_limits(self, child: _Child) -> None:
        now = time.monotonic()
        if now >= child.kill_at:
            _signal(child, signal.SIGKILL)
        elif now >= child.deadline and not child.expired:
            child.expired = True
            self._ask_to_leave(child, DEFAULT_GRACE_SECONDS)

    def _ask_to_leave(self, child: _Child, grace_seconds: float) -> None:
        child.kill_at = time.monotonic() + grace_seconds
        if child.process.poll() is None:
            child.process.terminate()


def _signal(child: _Child, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def _just_ended(child: _Child) -> bool:
    return child.ended is None and child.process.poll() is not None


def _progress(child: _Child) -> Progress | None:
    try:
        return Progress.model_validate_json((child.folder / "progress.json").read_bytes())
    except (OSError, ValueError):
        return None


def _job_object(child: _Child) -> Object:
    metadata = dict(child.job["metadata"])
    if child.leaving:
        metadata["deletionTimestamp"] = rfc3339(datetime.now(UTC))
    status: dict[str, Any] = {"startTime": child.started.isoformat()}
    if child.ended:
        good = child.process.returncode == 0
        reason = {"reason": "DeadlineExceeded"} if child.expired else {}
        status["conditions"] = [
            {
                "type": "Complete" if good else "Failed",
                "status": "True",
                "lastTransitionTime": child.ended.isoformat(),
                **({} if good else reason),
            }
        ]
    return {"metadata": metadata, "spec": child.job["spec"], "status": status}


def _pod_object(child: _Child) -> Object:
    code = child.process.returncode
    state: dict[str, Any] = {"running": {}}
    if child.ended:
        exit_code = 128 - code if code < 0 else code
        terminated = {
            "exitCode": exit_code,
            "finishedAt": child.ended.isoformat(),
            "message": _message(child),
        }
        state = {"terminated": terminated}
    phase = "Running" if not child.ended else "Succeeded" if code == 0 else "Failed"
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": child.name, "controller": True}
    return {
        "metadata": {"ownerReferences": [owner]},
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


def _message(child: _Child) -> str:
    try:
        return (child.folder / "message").read_text()
    except OSError:
        return ""

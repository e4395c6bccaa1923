"""`lorafinetune run`: wires the local runner to the terminal."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import S3
from lorafinetune.cli.errors import CommandError, unusable
from lorafinetune.cli.exit_codes import exit_code
from lorafinetune.cli.kubeyaml import dump
from lorafinetune.cli.output import Format, emit, errors, output, printed, watched
from lorafinetune.cli.summary import Environment, places
from lorafinetune.cli.view import View, make_view
from lorafinetune.contract.arguments import RESOURCE_FILE, STORE_DIRECTORY_VARIABLE
from lorafinetune.contract.https import ANYWHERE
from lorafinetune.contract.outcome import ExitCode
from lorafinetune.core.jobs import Settings
from lorafinetune.core.steps import stage_status
from lorafinetune.local.executor import Executor
from lorafinetune.local.lock import AlreadyRunningError, run_lock
from lorafinetune.local.runner import run
from lorafinetune.local.secrets import SecretMissingError, Secrets

ORPHAN: Final = "a stage of a killed run is still leaving; waiting for it"
UNREAD: Final = "nobody reads what is shown: the run is ended; the same command goes on from its checkpoint"
STOPPING: Final = "stopping after a checkpoint; interrupt again to end at once"
LOCK_FILE: Final = "lock"
SETTINGS: Final = Settings(local=True, https=ANYWHERE, first_retry_after=timedelta(seconds=2))


def run_resource(resource: LoRAFineTune, store: Path | None, runs: Path, secrets: Path, form: Format) -> int:
    """Runs a resource and shows it; returns the exit code. Raises CommandError.

    store: directory in place of every S3 server; None for the real ones. form: one for programs leaves
    standard output to them.
    """
    folder = (runs / resource.metadata.namespace / resource.metadata.name).absolute()
    view = make_view(Environment(places(store)), output if form is Format.TEXT else errors)
    try:
        with watched(UNREAD), run_lock(folder / LOCK_FILE, lambda: view.note(ORPHAN)) as lock, view:
            executor = Executor(folder, Secrets(secrets), _environment(resource, store), (lock,))
            return _run(resource, executor, view, form)
    except AlreadyRunningError as problem:
        raise CommandError(
            f"{resource.metadata.name} is running already: {problem}", ExitCode.TEMPORARY
        ) from None
    except OSError as problem:
        raise unusable(problem, "Give another directory with --store or --runs.") from None
    except SecretMissingError as problem:
        told = f"{Reason.CREDENTIALS_INVALID}: {problem}"
        raise CommandError(f"{told}. Put the value there, or give --secrets DIR.") from None


def _run(resource: LoRAFineTune, executor: Executor, view: View, form: Format) -> int:
    stop = threading.Event()
    with _interrupts(stop, executor, view):
        try:
            ended = run(resource, executor, SETTINGS, view.show, stop)
        except BaseException:
            executor.kill()
            raise
    keep(ended, executor.folder / RESOURCE_FILE)
    view.conclude(ended, _failed_log(ended, executor))
    if form is not Format.TEXT:
        emit(printed([ended.encode()], form))
    return exit_code(ended)


def keep(resource: LoRAFineTune, path: Path) -> None:
    """Leaves the resource with its status, as `kubectl get -o yaml` would show it."""
    partial = path.with_suffix(".partial")
    partial.write_text(dump(resource.encode()))
    partial.replace(path)


def _failed_log(resource: LoRAFineTune, executor: Executor) -> str:
    status = resource.status
    if status is None or status.failure is None or status.failure.stage is None:
        return ""
    job = stage_status(status, status.failure.stage).job
    return str(executor.log_file(job)) if job else ""


def _environment(resource: LoRAFineTune, store: Path | None) -> dict[str, str]:
    """The user's own environment; a bucket of the stand-in store is a directory that is made here."""
    environment = dict(os.environ)
    if store is None:
        return environment
    uri = resource.spec.storage.uri
    if uri.startswith(S3):
        (store / uri.removeprefix(S3).partition("/")[0]).mkdir(parents=True, exist_ok=True)
    return environment | {STORE_DIRECTORY_VARIABLE: str(store.absolute())}


@contextmanager
def _interrupts(stop: threading.Event, executor: Executor, view: View) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops after a checkpoint; the second ends at once."""

    def handle(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            executor.kill()
            raise KeyboardInterrupt
        stop.set()
        view.note(STOPPING)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""`lorafinetune watch`: a run on a cluster, live, until it ends.

It shows what the status says, so it needs nothing but the API server. Every change brings the whole resource,
which is some ten kilobytes for a large one.
"""

import re
from typing import Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageStatus
from lorafinetune.cli import INTERRUPTED
from lorafinetune.cli.cluster import ApiError, Cluster
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.exit_codes import exit_code
from lorafinetune.cli.follow import Deleted, follow
from lorafinetune.cli.output import errors, watched
from lorafinetune.cli.runs import decoded, has_ended, situation_of, status_of
from lorafinetune.cli.summary import Environment
from lorafinetune.cli.view import View, make_view
from lorafinetune.contract.outcome import ExitCode, Progress
from lorafinetune.core.events import events_between

DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
UNSEEN: Final = "waiting for the operator to look at it; does one serve this namespace?"


def watch_run(cluster: Cluster, name: str) -> int:
    """Shows a run until it ends; returns its exit code. Raises CommandError."""
    which = f"{name} -n {cluster.namespace}"
    stopped = f"suspended{{at}}; `lorafinetune resume {which}` goes on from there"
    view = make_view(Environment(lambda uri: uri, stopped))
    try:
        with watched(f"nobody reads what is shown; `lorafinetune watch {which}` shows it again"):
            return _shown(cluster, name, view, f"lorafinetune logs {which}")
    except KeyboardInterrupt:
        errors.print(f"{name} goes on; `lorafinetune watch {which}` shows it again")
        return INTERRUPTED


def _shown(cluster: Cluster, name: str, view: View, logs: str) -> int:
    with view:
        ended = _until_end(cluster, name, view)
    if ended is None:
        raise CommandError(f"{name} was deleted before it ended", ExitCode.STOPPED)
    failure = status_of(ended).failure
    view.conclude(ended, f"{logs} --stage {failure.stage}" if failure else "")
    return exit_code(ended)


def _until_end(cluster: Cluster, name: str, view: View) -> LoRAFineTune | None:
    """The run as it ended, or None where it was deleted."""
    before = LoRAFineTuneStatus()
    for seen in follow(cluster, name):
        if isinstance(seen, Deleted):
            return None
        if isinstance(seen, ApiError):
            view.note(f"{seen.message} It is tried again.")
            continue
        run = decoded(seen)
        view.note("" if run.status else UNSEEN)
        status = status_of(run)
        view.show(run, told_by(run), events_between(before, status, situation_of(run)) if run.status else ())
        before = status
        if has_ended(run):
            return run
    return None


def told_by(run: LoRAFineTune) -> dict[str, Progress]:
    """The progress of running stages as the status has it, by the names of their Jobs."""
    status = status_of(run)
    return {s.job: _progress(s, status) for s in status.stages if s.state == "Running" and s.job}


def _progress(stage: StageStatus, status: LoRAFineTuneStatus) -> Progress:
    counted = stage.progress
    return Progress(
        stage=stage.name,
        activity=(stage.message or "").partition("\n")[0],
        done=counted.done if counted else 0,
        total=counted.total if counted else None,
        unit=counted.unit if counted else "steps",
        eta_seconds=seconds(status.eta) if status.eta else None,
        training=status.training if stage.name == "train" else None,
    )


def seconds(duration: str) -> int | None:
    """`1h30m` as a number; None for what is no duration."""
    found = DURATION.fullmatch(duration)
    if not found or not any(found.groups()):
        return None
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + rest

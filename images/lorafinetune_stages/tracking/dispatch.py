"""Tells the trackers about a run. The run is done by then: what can't be told is a warning, and fails
nothing.

A server may take its time over every byte, so no timeout of a connection bounds it. A tracker that is not
done in time is left behind, in a thread that ends with the stage.
"""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Final

from lorafinetune.api.exports import Tracker
from lorafinetune.contract.arguments import ExportArguments
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.credentials import cleared
from lorafinetune_stages.hubs import Pause
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.tracking.record import Record

log = logging.getLogger("lorafinetune")

JOB_DIGITS: Final = 16
"""Of the training's key, as in the name of its Job."""
WITHIN_SECONDS: Final = 60.0
"""Longest that the export waits for one tracker."""


def tell(
    arguments: ExportArguments, context: Context, record: Record, folder: str, pause: Pause | None = None
) -> Iterator[str]:
    """Tells every tracker that is named, and yields warnings. folder: where the store has the page about the
    run. pause: replaces waiting between attempts."""
    for index, tracker in enumerate(arguments.export.trackers or ()):
        if tracker.name == "tensorboard":
            _keep_events(arguments, context, record, folder)
            continue
        context.progress.begin(f"telling {tracker.name}", None, "files")
        connection = arguments.connection(tracker.connection)
        origin = Origin(
            f"spec.export.trackers[{index}]", "models", tracker.name, connection=connection, name="name"
        )
        telling = partial(_tell, origin, tracker, record, context.workdir, pause or time.sleep)
        if warning := in_time(telling, origin, WITHIN_SECONDS):
            yield warning


def in_time(telling: Callable[[], None], origin: Origin, within: float) -> str | None:
    """Why a tracker was not told, or None where it was. within: seconds."""
    problems: list[str] = []
    thread = Thread(target=_noted, args=(telling, origin, problems), daemon=True)
    thread.start()
    thread.join(within)
    if thread.is_alive():
        return f"{_place(origin)} {origin.failed}: {origin.host} was not done after {within:.0f} s"
    return problems[0] if problems else None


def _noted(telling: Callable[[], None], origin: Origin, problems: list[str]) -> None:
    try:
        telling()
    except StageError as problem:
        problems.append(cleared(problem.message).removeprefix("spec."))
    except Exception as problem:  # whatever a stranger's answer has led to, the run is done
        log.debug("%s was not told", origin.source, exc_info=True)
        problems.append(f"{_place(origin)} {origin.failed}: {type(problem).__name__}")


def _place(origin: Origin) -> str:
    return f"{origin.field.removeprefix('spec.')}.{origin.name}: {origin.source}"


def _tell(origin: Origin, tracker: Tracker, record: Record, scratch: Path, pause: Pause) -> None:
    if tracker.name == "mlflow":
        mlflow = import_module("lorafinetune_stages.tracking.mlflow")
        mlflow.tell(origin, tracker.experiment, record, pause)
        return
    wandb = import_module("lorafinetune_stages.tracking.wandb")
    wandb.tell(origin, tracker, record, scratch)


def _keep_events(arguments: ExportArguments, context: Context, record: Record, folder: str) -> None:
    tensorboard = import_module("lorafinetune_stages.tracking.tensorboard")
    path = context.workdir / tensorboard.FILE
    tensorboard.write_events(record, path)
    training = arguments.trained[:JOB_DIGITS]
    context.store.upload(path, f"{folder}/{tensorboard.FOLDER}/{training}/{tensorboard.FILE}")
    path.unlink()

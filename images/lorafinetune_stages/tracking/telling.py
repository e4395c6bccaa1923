"""Tells the trackers of a run. It is done by then: what can't be told is a warning, and fails nothing."""

from collections.abc import Iterator
from importlib import import_module
from typing import Final

from lorafinetune.contract.arguments import ExportArguments
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.tracking.record import Record

JOB_DIGITS: Final = 16
"""Of the training's key, as in the name of its Job."""


def tell(arguments: ExportArguments, context: Context, record: Record, folder: str) -> Iterator[str]:
    """Tells every tracker that is named, and yields warnings. folder: where the store has the page about the
    run."""
    for tracker in arguments.export.trackers or ():
        if tracker.name == "tensorboard":
            _keep_events(arguments, context, record, folder)
    yield from ()


def _keep_events(arguments: ExportArguments, context: Context, record: Record, folder: str) -> None:
    tensorboard = import_module("lorafinetune_stages.tracking.tensorboard")
    path = context.workdir / tensorboard.FILE
    tensorboard.write_events(record, path)
    training = arguments.trained[:JOB_DIGITS]
    context.store.upload(path, f"{folder}/{tensorboard.FOLDER}/{training}/{tensorboard.FILE}")
    path.unlink()

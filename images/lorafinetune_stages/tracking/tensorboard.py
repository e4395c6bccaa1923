"""TensorBoard: one file of events in the store for each training of a run.

A logdir is a folder, and what is below it is compared; so the trainings of a run are beside each other in
one, and those of a namespace below the one above it. The file has the same name whenever it is written.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from lorafinetune_stages.tracking.record import Record

FOLDER: Final = "tensorboard"
FILE: Final = "events.out.tfevents.lorafinetune"
VERSION: Final = "brain.Event:2"
"""What TensorBoard wants to read first."""


def write_events(record: Record, path: Path) -> None:
    """Writes what TensorBoard reads. The log has no times, so all has that of the training's end."""
    writer = RecordWriter(str(path))
    try:
        for event in _events(record):
            event.wall_time = record.ended.timestamp()
            writer.write(event.SerializeToString(deterministic=True))
    finally:
        writer.close()


def _events(record: Record) -> Iterator[Event]:
    yield Event(file_version=VERSION)
    experiment, start, end = summary.hparams(dict(record.parameters), dict(record.results))
    yield from (Event(summary=told) for told in (experiment, start))
    yield Event(summary=summary.text("run", _lines(record.tags)))
    for point in record.points:
        yield Event(step=point.step, summary=_scalars(point.values))
    yield Event(step=record.last_step, summary=_scalars(record.results))
    yield Event(summary=end)


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _lines(tags: Mapping[str, str]) -> str:
    """As Markdown has text that is only text: every line of it is indented."""
    return "\n".join(f"    {name}: {' '.join(text.split())}" for name, text in tags.items())

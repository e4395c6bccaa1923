"""What a person sees of a run: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageStatus
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.events import Event
from lorafinetune.core.results import duration
from lorafinetune.core.steps import stage_status

PLAIN_EVERY_SECONDS: Final = 10
BYTES: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))
MARKS: Final = {
    "Pending": "·",
    "Running": "▶",
    "Waiting": "…",
    "Stopping": "■",
    "Complete": "✓",
    "Failed": "✗",
}


class View(Protocol):
    """Shows a run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(
        self, resource: LoRAFineTune, progress: dict[str, Progress], events: tuple[Event, ...]
    ) -> None: ...
    def stopping(self) -> None: ...
    def waiting_for_orphan(self) -> None: ...
    def refuse(self, message: str) -> None: ...
    def conclude(self, resource: LoRAFineTune, log: Path | None) -> None: ...


def make_view(resource: LoRAFineTune, store: Path | None) -> View:
    """Bars where there is a terminal, lines where there is none."""
    console = Console(highlight=False)
    place = places(store)
    return LiveView(console, place) if console.is_terminal else PlainView(console, place)


class PlainView:
    """One line for every event, and one every ten seconds while a stage is running."""

    def __init__(
        self, console: Console, place: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = Console(
            file=console.file, highlight=False, soft_wrap=True, markup=False, no_color=console.no_color
        )
        self._place = place
        self._clock = clock
        self._last = clock()
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, resource: LoRAFineTune, progress: dict[str, Progress], events: tuple[Event, ...]) -> None:
        for event in _news(resource, events):
            self._line(event.message if event.type == "Normal" else f"{event.reason}: {event.message}")
        if events or self._clock() - self._last >= PLAIN_EVERY_SECONDS:
            self._last = self._clock()
            for stage, found in _running(resource, progress):
                line = describe(found)
                if line and line != self._said:
                    self._said = line
                    self._line(f"{stage.name}: {line}")

    def stopping(self) -> None:
        self._line("stopping after a checkpoint; interrupt again to end at once")

    def waiting_for_orphan(self) -> None:
        self._line("a stage of a killed run is still leaving; waiting for it")

    def refuse(self, message: str) -> None:
        self._line(message)

    def conclude(self, resource: LoRAFineTune, log: Path | None) -> None:
        for line in summary(resource, self._place, log):
            self._line(line)

    def _line(self, text: str) -> None:
        self._console.print(printable(text))


class LiveView(PlainView):
    """The four stages with bars, redrawn in place; events scroll above them."""

    def __init__(self, console: Console, place: Callable[[str], str]) -> None:
        super().__init__(console, place)
        self._console = console
        self._note = ""
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, resource: LoRAFineTune, progress: dict[str, Progress], events: tuple[Event, ...]) -> None:
        for event in _news(resource, events):
            if event.type == "Warning":
                self._console.print(Text(printable(f"{event.reason}: {event.message}"), style="yellow"))
        self._live.update(Group(_table(resource, progress), Text(self._note, style="yellow")), refresh=True)

    def stopping(self) -> None:
        self._note = "stopping after a checkpoint; Ctrl-C again ends at once"

    def conclude(self, resource: LoRAFineTune, log: Path | None) -> None:
        self._live.stop()
        self._console.print(_table(resource, {}))
        super().conclude(resource, log)

    def _line(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)


def summary(resource: LoRAFineTune, place: Callable[[str], str], log: Path | None) -> list[str]:
    """The last lines of a run: where everything is, or what went wrong and what to do."""
    status = resource.status or LoRAFineTuneStatus()
    if failure := status.failure:
        lines = [
            f"{failure.stage or 'run'} failed: {failure.reason}: {failure.message}",
            f"hint: {failure.hint}",
        ]
        return [*lines, *([f"log: {log}"] if log else [])]
    if status.stage != "Complete":
        step = f" at step {status.checkpoint.step}" if status.checkpoint else ""
        return [f"stopped{step}; the same command goes on from there"]
    return [f"{name:<13}{place(uri)}" for name, uri in _outputs(resource, status)]


def _outputs(resource: LoRAFineTune, status: LoRAFineTuneStatus) -> list[tuple[str, str]]:
    training = f"{resource.spec.storage.uri}/trainings/{stage_status(status, 'train').key}"
    artifacts = status.artifacts
    outputs = []
    if artifacts and artifacts.adapter:
        outputs.append(("adapter", artifacts.adapter.uri))
    if artifacts and artifacts.merged:
        outputs.append(("merged model", artifacts.merged.uri))
        outputs += [("published", published.uri) for published in artifacts.published]
    outputs += [("loss curve", f"{training}/loss.png"), ("manifest", f"{training}/manifest.json")]
    if status.dataset:
        outputs.append(("data report", status.dataset.report))
    return outputs


def describe(progress: Progress) -> str:
    """`tokenising 300/1,000 rows, 210/s, 3s left, loss 1.234`."""
    if not progress.activity:
        return ""
    parts = [f"{progress.activity} {_counted(progress)}".strip()]
    if progress.rate and progress.done and progress.done != progress.total:
        parts.append(_speed(float(progress.rate), progress.unit))
    if progress.eta_seconds and progress.done:
        parts.append(f"{duration(progress.eta_seconds)} left")
    if progress.unit == "steps" and progress.training and progress.training.loss:
        parts.append(f"loss {progress.training.loss}")
    return ", ".join(parts)


def _counted(progress: Progress) -> str:
    if not progress.done and not progress.total:
        return ""
    whole = progress.total or progress.done
    if progress.unit == "bytes":
        size, name = next((s, n) for s, n in BYTES if whole >= s or s == 1)
        digits = 0 if size == 1 else 1
        done, total = f"{progress.done / size:,.{digits}f}", f"{whole / size:,.{digits}f} {name}"
    else:
        done, total = f"{progress.done:,}", f"{whole:,} {progress.unit}"
    return f"{done}/{total}" if progress.total else total


def _speed(rate: float, unit: str) -> str:
    if unit == "bytes":
        return f"{rate / 1e6:,.1f} MB/s"
    if rate < 1:
        return f"{1 / max(rate, 0.01):.1f} s/{unit.removesuffix('s')}"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def _news(resource: LoRAFineTune, events: tuple[Event, ...]) -> list[Event]:
    """The events but for the one that ends the run: the summary says that with a hint."""
    ended = resource.status is not None and resource.status.stage in ("Complete", "Failed", "Suspended")
    return [event for event in events if not (ended and event is events[-1])]


def printable(text: str) -> str:
    """The text without control characters: names, rows and error texts are written by strangers."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _running(resource: LoRAFineTune, progress: dict[str, Progress]) -> list[tuple[StageStatus, Progress]]:
    stages = resource.status.stages if resource.status else ()
    return [(s, progress[s.job]) for s in stages if s.state == "Running" and s.job and s.job in progress]


def _table(resource: LoRAFineTune, progress: dict[str, Progress]) -> Table:
    status = resource.status or LoRAFineTuneStatus()
    table = Table.grid(padding=(0, 1))
    for name in STAGES:
        stage = stage_status(status, name)
        found = progress.get(stage.job or "") if stage.state == "Running" else None
        table.add_row(
            MARKS[stage.state], name, _bar(stage, found), Text(_words(stage, found), overflow="ellipsis")
        )
    return table


def _bar(stage: StageStatus, found: Progress | None) -> ProgressBar | str:
    if stage.state == "Complete":
        return ProgressBar(total=1, completed=1, width=24)
    if stage.state != "Running":
        return ""
    if found is None or not found.total:
        return ProgressBar(total=None, pulse=True, width=24)
    return ProgressBar(total=found.total, completed=min(found.done, found.total), width=24)


def _words(stage: StageStatus, found: Progress | None) -> str:
    if stage.state == "Complete":
        return "found in the store" if stage.cache_hit else "done"
    if found:
        return describe(found)
    return (stage.message or "").partition("\n")[0] if stage.state != "Pending" else ""


def places(store: Path | None) -> Callable[[str], str]:
    """Makes a function that turns a URI into the path where a person finds it in a local run."""
    root = store.absolute() if store else None

    def place(uri: str) -> str:
        if uri.startswith("file://"):
            return uri.removeprefix("file://")
        return str(root / uri.removeprefix("s3://")) if root and uri.startswith("s3://") else uri

    return place

"""What a person sees of a run: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.safetext import safe
from lorafinetune.api.status import LoRAFineTuneStatus, StageStatus
from lorafinetune.cli.humanize import describe, sparkline
from lorafinetune.cli.output import output
from lorafinetune.cli.summary import Environment, summary
from lorafinetune.contract.arguments import STAGES
from lorafinetune.contract.outcome import Progress
from lorafinetune.contract.times import duration
from lorafinetune.core.conditions import QUEUED
from lorafinetune.core.events import Event
from lorafinetune.core.steps import stage_status

PLAIN_EVERY_SECONDS: Final = 10
OLD_AFTER_SECONDS: Final = 30
"""What was said longer ago than this is shown with its age."""
BARS: Final = (24, 16, 8, 4)
"""Widths of a bar, of which the first is taken that leaves the words whole: in steps, or it would move with
each digit of theirs."""
AROUND_BAR: Final = 12
"""Columns before the bar, and between it and the words."""
CURVE: Final = "  loss   {line}  {first} → {last}"
MARKS: Final = {
    "Pending": "·",
    "Running": "▶",
    "Waiting": "…",
    "Stopping": "■",
    "Complete": "✓",
    "Failed": "✗",
}

ProgressByJob = Mapping[str, Progress]
"""What running Jobs say of themselves, by their names."""


class View(Protocol):
    """Shows a run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, resource: LoRAFineTune, progress: ProgressByJob, events: tuple[Event, ...]) -> None: ...
    def note(self, text: str) -> None: ...
    def conclude(self, resource: LoRAFineTune, log: str) -> None: ...


def make_view(environment: Environment, console: Console = output) -> View:
    """Bars where there is a terminal, lines where there is none."""
    return LiveView(console, environment) if console.is_terminal else PlainView(console, environment)


class PlainView:
    """One line for every event, and one every ten seconds while a stage is running."""

    def __init__(
        self, console: Console, environment: Environment, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._environment = environment
        self._clock = clock
        self._last = clock()
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, resource: LoRAFineTune, progress: ProgressByJob, events: tuple[Event, ...]) -> None:
        for event in _news(resource, events):
            self._line(event.message if event.type == "Normal" else f"{event.reason}: {event.message}")
        if events or self._clock() - self._last >= PLAIN_EVERY_SECONDS:
            self._last = self._clock()
            for stage, found in _running(resource, progress):
                line = describe(found)
                if line and line != self._said:
                    self._said = line
                    self._line(f"{stage.name}: {line}")

    def note(self, text: str) -> None:
        """Something about the watching itself; empty: it is over."""
        if text:
            self._line(text)

    def conclude(self, resource: LoRAFineTune, log: str) -> None:
        for line in summary(resource, self._environment, log):
            self._line(line)

    def _line(self, text: str) -> None:
        self._console.print(safe(text), markup=False, highlight=False, soft_wrap=True)


class LiveView(PlainView):
    """The four stages with bars, redrawn in place every second. What somebody may have to mend, and why a
    queue holds a training, scroll above them in full."""

    def __init__(
        self, console: Console, environment: Environment, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, environment, clock)
        self._note = ""
        self._seen: tuple[LoRAFineTune, ProgressByJob, float] | None = None
        self._live = Live(console=console, refresh_per_second=1, transient=True, get_renderable=self.drawn)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, resource: LoRAFineTune, progress: ProgressByJob, events: tuple[Event, ...]) -> None:
        for event in _news(resource, events):
            if event.type == "Warning" or event.reason == QUEUED:
                self._console.print(Text(safe(f"{event.reason}: {event.message}"), style="yellow"))
        if self._seen is None or (resource, progress) != self._seen[:2]:
            self._seen = (resource, progress, self._clock())
        self._live.refresh()

    def note(self, text: str) -> None:
        self._note = text
        self._live.refresh()

    def conclude(self, resource: LoRAFineTune, log: str) -> None:
        self._seen = None
        self._live.stop()
        self._console.print(_table(resource, {}, 0, self._console.width))
        super().conclude(resource, log)

    def drawn(self) -> Group:
        """What stands there at this moment: the time that is left runs down between two reports."""
        if self._seen is None:
            return Group(Text(self._note, style="yellow"))
        resource, progress, at = self._seen
        old = int(self._clock() - at)
        curve = _curve(resource, self._console.width)
        parts = [_table(resource, progress, old, self._console.width)]
        notes = [self._note] if self._note else []
        return Group(*parts, *curve, *(Text(safe(note), style="yellow") for note in notes))


def _news(resource: LoRAFineTune, events: tuple[Event, ...]) -> list[Event]:
    """The events but for the one that ends the run: the summary says that with a hint."""
    ended = resource.status is not None and resource.status.stage in ("Complete", "Failed", "Suspended")
    return [event for event in events if not (ended and event is events[-1])]


def _running(resource: LoRAFineTune, progress: ProgressByJob) -> list[tuple[StageStatus, Progress]]:
    stages = resource.status.stages if resource.status else ()
    return [(s, progress[s.job]) for s in stages if s.state == "Running" and s.job and s.job in progress]


def _table(resource: LoRAFineTune, progress: ProgressByJob, old: int, width: int) -> Table:
    """The stages. old: seconds since the progress was told."""
    status = resource.status or LoRAFineTuneStatus()
    table = Table.grid(padding=(0, 1))
    stages = {name: stage_status(status, name) for name in STAGES}
    found = {name: progress.get(each.job or "") for name, each in stages.items() if each.state == "Running"}
    words = {name: safe(_words(each, found.get(name), old)) for name, each in stages.items()}
    beside = [words[name] for name, each in stages.items() if each.state in ("Running", "Complete")]
    bar = _bar_width(width - AROUND_BAR - max(map(cell_len, beside), default=0))
    for name, each in stages.items():
        told = Text(words[name], overflow="ellipsis", no_wrap=True)
        table.add_row(MARKS[each.state], name, _bar(each, found.get(name), bar), told)
    return table


def _bar_width(room: int) -> int:
    return next((width for width in BARS if width <= room), 0)


def _bar(stage: StageStatus, found: Progress | None, width: int) -> ProgressBar | str:
    if not width:
        return ""
    if stage.state == "Complete":
        return ProgressBar(total=1, completed=1, width=width)
    if stage.state != "Running":
        return ""
    if found is None or not found.total:
        return ProgressBar(total=None, pulse=True, width=width)
    return ProgressBar(total=found.total, completed=min(found.done, found.total), width=width)


def _words(stage: StageStatus, found: Progress | None, old: int) -> str:
    if stage.state == "Complete":
        return "found in the store" if stage.cache_hit else "done"
    if found:
        left = None if found.eta_seconds is None else max(0, found.eta_seconds - old)
        told = describe(found.model_copy(update={"eta_seconds": left}))
        return f"{told} ({duration(old)} ago)" if told and old > OLD_AFTER_SECONDS else told
    return (stage.message or "").partition("\n")[0] if stage.state != "Pending" else ""


def _curve(resource: LoRAFineTune, width: int) -> list[Text]:
    """The last losses as a line, where there are some."""
    training = resource.status.training if resource.status else None
    points = training.recent if training else ()
    if len(points) < 2:
        return []
    longest = "0" * max(len(point.loss) for point in points)
    room = width - len(CURVE.format(line="", first=longest, last=longest))
    points = points[-max(2, room) :]
    line = sparkline([float(point.loss) for point in points])
    told = CURVE.format(line=line, first=points[0].loss, last=points[-1].loss)
    return [Text(told, no_wrap=True, overflow="ellipsis")]

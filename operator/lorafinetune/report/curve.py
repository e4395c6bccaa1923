"""Curves as shapes: a picture has room for some hundred points of thousands of steps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Final

WIDTH: Final = 400
HEIGHT: Final = 180
MOST_POINTS: Final = 160
MOST_TICKS: Final = 8
TICKS: Final = 6
SMALLEST_SPAN: Final = 1e-100
"""Between values that are closer no round number is looked for."""


@dataclass(frozen=True)
class Point:
    """What `count` values from the step `first` to `step` amount to. value: their mean."""

    count: int
    first: int
    step: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Plotted:
    """A point where it is drawn. left, width: of the slice that is its own, in which its value is shown."""

    x: float
    y: float
    left: float
    width: float
    point: Point


@dataclass(frozen=True)
class Tick:
    """A number at an axis."""

    at: float
    value: float


@dataclass(frozen=True)
class Chart:
    """Two series in one picture, in pixels from the top left. line, dotted: their points as SVG has them.
    band: between the least and the greatest values of the first."""

    line: str
    band: str
    slices: tuple[Plotted, ...]
    dotted: str
    dots: tuple[Plotted, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    size: int
    falls: bool = False
    """Whether the greatest value is at 0, as pixels count from the top."""

    def __call__(self, value: float) -> float:
        """Where a value is; all that there is in the middle, where it is one value."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return round(self.size * (1 - share if self.falls else share), 1)


def chart(series: Sequence[tuple[int, float]], dots: Sequence[tuple[int, float]] = ()) -> Chart | None:
    """The picture of (step, value)s, in whatever order; None where there is nothing to draw."""
    line, dotted = (thin(sorted(points, key=itemgetter(0))) for points in (series, dots))
    every = [*line, *dotted]
    if not every:
        return None
    x = _Scale(min(p.step for p in every), max(p.step for p in every), WIDTH)
    y = _Scale(min(p.low for p in every), max(p.high for p in every), HEIGHT, falls=True)
    edge = [(x(p.step), y(p.high)) for p in line]
    edge += [(x(p.step), y(p.low)) for p in reversed(line)]
    marks, evaluations = tuple(_marks(line, x, y)), tuple(_marks(dotted, x, y))
    return Chart(
        line=_drawn([(mark.x, mark.y) for mark in marks]),
        band=_drawn(edge) if any(point.low < point.high for point in line) else "",
        slices=marks,
        dotted=_drawn([(mark.x, mark.y) for mark in evaluations]),
        dots=evaluations,
        x_ticks=tuple(Tick(x(value), value) for value in _ticks(x, whole=True)),
        y_ticks=tuple(Tick(y(value), value) for value in _ticks(y)),
    )


def thin(series: Sequence[tuple[int, float]]) -> list[Point]:
    """At most MOST_POINTS points, of equally many values each; no value is left out of them."""
    count = min(len(series), MOST_POINTS)
    bounds = [len(series) * index // count for index in range(count + 1)] if count else [0]
    return [_point(series[start:end]) for start, end in pairwise(bounds)]


def _point(part: Sequence[tuple[int, float]]) -> Point:
    values = [value for _, value in part]
    return Point(
        len(part), part[0][0], part[-1][0], math.fsum(values) / len(values), min(values), max(values)
    )


def _marks(points: Sequence[Point], x: _Scale, y: _Scale) -> Iterator[Plotted]:
    """Slices meet half-way between two points, and the outer ones reach to the edges."""
    places = [x(point.step) for point in points]
    borders = [0.0, *((a + b) / 2 for a, b in pairwise(places)), float(WIDTH)]
    for index, point in enumerate(points):
        left, right = borders[index], borders[index + 1]
        yield Plotted(places[index], y(point.value), round(left, 2), round(right - left, 2), point)


def _drawn(places: Sequence[tuple[float, float]]) -> str:
    """One place is drawn twice: a line of no length is a dot."""
    twice = [*places, *places] if len(places) == 1 else places
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in twice)


def _ticks(scale: _Scale, whole: bool = False) -> Iterator[float]:
    """Round numbers on an axis."""
    span = scale.high - scale.low
    if span < SMALLEST_SPAN:
        yield scale.low
        return
    step = _round_number(span / TICKS)
    step = max(1.0, step) if whole else step
    first = math.ceil(scale.low / step)
    for index in range(MOST_TICKS):
        value = (first + index) * step
        if value > scale.high:
            return
        yield float(f"{value:.12g}")


def _round_number(value: float) -> float:
    """The next greater one of 1, 2, 5 and 10, at the value's own power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next((n for n in (1, 2, 5) if n * power >= value), 10)

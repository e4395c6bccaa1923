"""Numbers of a running stage in words, and texts of strangers made harmless."""

import math
from collections.abc import Sequence
from typing import Final

from lorafinetune.contract.outcome import Progress
from lorafinetune.contract.times import duration

BYTES: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))
BLOCKS: Final = "▁▂▃▄▅▆▇█"


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


def amount(size: int) -> str:
    """Bytes as a person says them: `1.2 GB`, `17 bytes`."""
    unit, name = next((unit, name) for unit, name in BYTES if size >= unit or unit == 1)
    return f"{size / unit:,.1f} {name}" if unit > 1 else f"{size} {name}"


def _speed(rate: float, unit: str) -> str:
    if unit == "bytes":
        return f"{rate / 1e6:,.1f} MB/s"
    if rate < 1:
        return f"{1 / max(rate, 1e-4):.1f} s/{unit.removesuffix('s')}"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def sparkline(values: Sequence[float]) -> str:
    """A curve of one letter a value, from the least to the greatest; what is no number is left out."""
    values = [value for value in values if math.isfinite(value)]
    least, greatest = min(values, default=0.0), max(values, default=0.0)
    span = (greatest - least) or 1.0
    return "".join(BLOCKS[round((value - least) / span * (len(BLOCKS) - 1))] for value in values)

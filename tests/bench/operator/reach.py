"""How far one operator carries, computed from what was measured and from the pace of progress."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, Final

from lorafinetune.shell.progress import LEAST_SECONDS, SHARE

HOUR: Final = 3600.0
LIMIT_MB: Final = 512 * 2**20 / 1e6
"""What the chart allows the operator."""
OPERATOR_CPU: Final = "operator: CPU ms a life"
SERVER_CPU: Final = "API server: CPU ms a life"
CALLS: Final = "API calls a life"
MEMORY: Final = "operator: MB"
EMPTY: Final = "operator: MB before the first run"

SHARED: Final = (
    "The API server, etcd, the controllers, the operator, and the benchmark, which acts as people and"
    " kubelets, share the machine. The table says how busy it was while the latencies were taken, and by"
    " whose work. Latencies are those of runs that arrive at the rate in the table, beside as many runs as"
    " the column says. *Machine full* means that all of these were created at once, and wait for a processor."
)
REACH: Final = (
    "How many runs one operator carries: a run that takes an hour costs it {calls:.0f} calls for its life"
    " and {shown:.0f} writes of progress. If each costs as much of the operator's CPU as a call of a life"
    " does ({each:.1f} ms, with the events that follow from it), half a core serves {at_once:,} such runs at"
    " a time. A run that exists takes {kilobytes:.0f} KB of the operator's memory, so the chart's limit of"
    " 512 Mi holds {most:,}. Beyond that, install several operators, each with its own `watch.namespaces`."
    " They share nothing but the API server. It spends {ratio:.1f} times the operator's CPU on each run, so"
    " one of its cores carries {served:,} of them at a time."
)


def paragraph(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the table says to whoever plans an installation."""
    few, many = (_column(rows, index) for index in (1, 2))
    calls, shown = few[CALLS], progress_writes(HOUR)
    each, ratio = few[OPERATOR_CPU] / calls, few[SERVER_CPU] / few[OPERATOR_CPU]
    per_core = 1000 * HOUR / (each * (calls + shown))
    kilobytes = 1000 * (many[MEMORY] - few[EMPTY]) / _runs(rows)
    reach = REACH.format(
        calls=calls,
        shown=shown,
        each=each,
        at_once=_rounded(per_core / 2),
        ratio=ratio,
        served=_rounded(per_core / ratio),
        kilobytes=kilobytes,
        most=_rounded(1000 * (LIMIT_MB - few[EMPTY]) / kilobytes),
    )
    return f"{SHARED}\n\n{reach}"


def progress_writes(seconds: float) -> float:
    """How often the status shows the progress of a Job that runs so long and never stops telling: at a
    fixed pace first, then each time that its age has grown by the share."""
    steady = LEAST_SECONDS * SHARE
    return min(seconds, steady) / LEAST_SECONDS + SHARE * log(max(1.0, seconds / steady))


def _runs(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many are there, as the column of the many says."""
    return int("".join(filter(str.isdigit, list(rows[0])[2])))


def _column(rows: Sequence[Mapping[str, Any]], index: int) -> dict[str, float]:
    name = list(rows[0])[index]
    return {str(row["what"]): row[name] for row in rows if row[name] != ""}


def _rounded(value: float) -> int:
    """Two digits that count."""
    unit: int = 10 ** max(0, len(str(int(value))) - 2)
    return int(value) // unit * unit

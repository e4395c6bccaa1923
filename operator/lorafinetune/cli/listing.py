"""`lorafinetune list`: the runs of a namespace, or of all, in one table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lorafinetune.api import PLURAL
from lorafinetune.api.safetext import safe_line
from lorafinetune.cli.choices import Sort
from lorafinetune.cli.cluster import Cluster, Object
from lorafinetune.cli.output import Format, aligned, as_list, emit, full_name, output, structured
from lorafinetune.cli.runs import age, clock
from lorafinetune.contract.times import duration


@dataclass(frozen=True)
class Column:
    """A heading, and what stands below it."""

    heading: str
    value: Callable[[Object, datetime], object]
    wide: bool = False


def within(*names: str) -> Callable[[Object, datetime], object]:
    """The field at a path, where it is."""

    def value(run: Object, _: datetime) -> object:
        found: Any = run
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    return value


def reason(run: Object, _: datetime) -> str:
    """Why a run does not get on."""
    conditions = {c["type"]: c for c in run.get("status", {}).get("conditions", ())}
    if not conditions:
        return "Unseen"
    ready = conditions.get("Ready", {})
    stage = str(run["status"].get("stage", ""))
    told = str(ready.get("reason", ""))
    return "" if ready.get("status") == "True" or told == stage else told


def gpu_seconds(run: Object) -> int:
    """Time that GPUs were held for a run, summed over GPUs and attempts."""
    return int(run.get("status", {}).get("gpuSeconds", {}).get("held", 0))


COLUMNS: Final = (
    Column("NAME", within("metadata", "name")),
    Column("STAGE", within("status", "stage")),
    Column("PROGRESS", within("status", "progress")),
    Column("LOSS", within("status", "loss")),
    Column("ETA", within("status", "eta")),
    Column("GPU-TIME", lambda run, _: duration(gpu_seconds(run)) if gpu_seconds(run) else ""),
    Column("AGE", lambda run, now: age(run["metadata"].get("creationTimestamp"), now)),
    Column("REASON", reason),
    Column("MODEL", within("spec", "model", "source"), wide=True),
    Column("STEP", within("status", "training", "step"), wide=True),
    Column("RESUMES", within("status", "resumes"), wide=True),
    Column("ADAPTER", within("status", "artifacts", "adapter", "uri"), wide=True),
)
NAMESPACE: Final = Column("NAMESPACE", within("metadata", "namespace"))


def list_runs(cluster: Cluster, everywhere: bool, form: Format, sort: Sort) -> None:
    """Prints the runs. everywhere: of all namespaces. Raises ApiError."""
    namespace = None if everywhere else cluster.namespace
    runs = ordered(cluster.list(PLURAL, namespace), sort)
    if form is Format.NAME:
        emit("".join(f"{full_name(run['metadata']['name'])}\n" for run in runs))
    elif form.is_data:
        emit(structured(as_list(runs), form))
    elif runs:
        for line in table(runs, everywhere, form is Format.WIDE, clock()):
            output.print(line)
    else:
        output.print("There are no runs" + ("." if everywhere else f" in the namespace {namespace}."))


def ordered(runs: Iterable[Object], sort: Sort) -> list[Object]:
    by_name = sorted(runs, key=lambda run: (run["metadata"].get("namespace", ""), run["metadata"]["name"]))
    if sort is Sort.GPU_SECONDS:
        return sorted(by_name, key=gpu_seconds, reverse=True)
    if sort is Sort.AGE:
        return sorted(by_name, key=lambda run: str(run["metadata"].get("creationTimestamp", "")))
    return by_name


def table(runs: Sequence[Object], everywhere: bool, wide: bool, now: datetime) -> list[str]:
    """The lines of the table, heading first."""
    columns = [column for column in COLUMNS if wide or not column.wide]
    columns = [NAMESPACE, *columns] if everywhere else columns
    rows = [[_cell(column.value(run, now)) for column in columns] for run in runs]
    return aligned([[column.heading for column in columns], *rows])


def _cell(value: object) -> str:
    return safe_line(str(value)) if value not in (None, "") else "-"

"""How every benchmark reports: a table for the eye, and a file that says what was measured, and on what."""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "docs" / "results"
COMMIT_VARIABLE: Final = "COMMIT"

Row = Mapping[str, str | int | float]
"""One measurement: column to value, with the unit in the column's name."""


def write_results(name: str, rows: Sequence[Row], **others: object) -> Path:
    """Prints the rows as a table, and writes them to docs/results/NAME.json. others: what is kept beside
    the rows, for none to print."""
    Console(stderr=False).print(table(name, rows))
    report = {
        "command": command(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "hardware": hardware(),
        "rows": [dict(row) for row in rows],
        **others,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return path


def table(name: str, rows: Sequence[Row]) -> Table:
    """Numbers to the right, text to the left; the columns are those of all rows, in order."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    result = Table(title=name)
    for column in columns:
        numeric = all(isinstance(row.get(column, 0), int | float) for row in rows)
        result.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        result.add_row(*(str(row.get(column, "")) for column in columns))
    return result


def command() -> str:
    """The command line that repeats the benchmark, from the root of the repository."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec and spec.name.removesuffix(".__main__")
    program = f"-m {module}" if module else str(Path(sys.argv[0]).resolve().relative_to(ROOT))
    return " ".join(["PYTHONPATH=tests python", program, shlex.join(sys.argv[1:])]).strip()


def commit() -> str:
    """The commit that was measured, marked where the tree had changes on top of it, but for results.

    Of a copy of a tree without its history, whoever made it says so: `COMMIT=$(git rev-parse HEAD)`."""
    if named := os.environ.get(COMMIT_VARIABLE):
        return named
    head = _output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(ROOT), "status", "--porcelain", "-uno", "--", ":!docs/results")
    return f"{head}-dirty" if changes else head or "unknown"


def hardware() -> dict[str, str | int | float]:
    """What the numbers depend on. load: of the machine at the end, by the benchmark and by others."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    gpus = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory GiB": round(pages * page_bytes / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "gpus": ", ".join(gpus) or "none",
        "system": " ".join([platform.system(), *platform.release().split("-")[:1]]),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return model[1] if model else platform.machine()


def _output(*command: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""

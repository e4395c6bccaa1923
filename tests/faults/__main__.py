"""Tries every fault at every point: `python -m faults [PART ...]`. Without parts, all of them.

The table is kept in docs/results/faults.json, where all parts were run.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.results import Row, table, write_results
from faults import crash, schema, stages
from faults.outcome import SEED, Outcome

NAME: Final = "faults"
PARTS: Final[Mapping[str, Callable[[Path, float, int], Outcome]]] = {
    "operator": crash.matrix,
    "schema": schema.matrix,
    "stages": lambda folder, share, seed: stages.matrix(dict.fromkeys(stages.MODULES, share), folder, seed),
}


def main() -> int:
    """The exit status: 1 where anything did not end as it should."""
    options = argparse.ArgumentParser(prog="faults")
    options.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    options.add_argument("--share", type=float, default=1.0, help="of the points, from 0 to 1")
    options.add_argument("--seed", type=int, default=SEED, help="which points, where they are a share")
    given = options.parse_args()
    rows: list[Row] = []
    complaints: list[str] = []
    for name in given.parts or PARTS:
        outcome = _run(name, given.share, given.seed)
        rows += outcome.rows
        complaints += outcome.complaints
    if given.parts or given.share < 1:
        Console().print(table(NAME, rows))
    else:
        write_results(NAME, rows)
    sys.stderr.write("".join(f"{complaint}\n" for complaint in complaints))
    return int(bool(complaints))


def _run(name: str, share: float, seed: int) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        outcome = PARTS[name](Path(folder), share, seed)
    sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    return outcome


if __name__ == "__main__":
    sys.exit(main())

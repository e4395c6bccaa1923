"""Tries every fault at every point, and every attack: `python -m faults [PART ...]`. Without parts, all.

What a part came to is kept in docs/results/faults_PART.json, where all of its points were tried: a file for
each, so that a part may be tried again alone, and none speaks for the commit of another.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.results import table, write_results
from faults import attempts, crash, schema, stages
from faults.outcome import PREFIX, SEED, Outcome

PARTS: Final[Mapping[str, Callable[[Path, float, int], Outcome]]] = {
    "operator": crash.matrix,
    "schema": schema.matrix,
    **{stage: partial(stages.matrix_of, stage) for stage in stages.MODULES},
    "attacks": attempts.matrix,
}


def main() -> int:
    """The exit status: 1 where anything did not end as it should."""
    options = argparse.ArgumentParser(prog="faults")
    options.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    options.add_argument("--share", type=float, default=1.0, help="of the points, from 0 to 1")
    options.add_argument("--seed", type=int, default=SEED, help="which points, where they are a share")
    given = options.parse_args()
    complaints = [
        complaint
        for name in given.parts or PARTS
        for complaint in _run(name, given.share, given.seed).complaints
    ]
    return int(bool(complaints))


def _run(part: str, share: float, seed: int) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        outcome = PARTS[part](Path(folder), share, seed)
    seconds = round(time.monotonic() - began)
    if share < 1:
        Console().print(table(part, outcome.rows))
    else:
        write_results(f"{PREFIX}{part}", outcome.rows, seed=seed, seconds=seconds)
    sys.stderr.write("".join(f"{complaint}\n" for complaint in outcome.complaints))
    sys.stderr.write(f"{part}: {seconds} s\n")
    return outcome


if __name__ == "__main__":
    sys.exit(main())

"""Disturbs real runs on a real cluster at random: `python -m chaos --seed 7 --runs 50`.

The table is kept in docs/results/chaos.json. The exit status is 1 where a run ended wrongly.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.results import write_results
from chaos.judgement import Judged, tally
from chaos.lives import Stage
from chaos.schedule import CLUSTER, RUN, Schedule, draw
from cluster import storage, testbed
from cluster.process import say
from e2e.installation import Installation
from e2e.tenant import Store

NAME: Final = "chaos"
AT_ONCE: Final = 3
"""Runs beside each other: much of a run is waiting."""


def main() -> int:
    options = argparse.ArgumentParser(prog=NAME)
    options.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--only", type=int, help="the run of this number, and no other")
    options.add_argument("--at-once", type=int, default=AT_ONCE, help="how many runs live beside each other")
    options.add_argument("--minutes", type=float, default=60, help="begin no run after this time")
    given = options.parse_args()
    say(f"the seed is {given.seed}")
    schedules = [s for s in draw(given.seed, given.runs) if given.only in (None, s.number)]
    with stage() as place:
        judged, tracebacks = lived(place, schedules, given.at_once, 60 * given.minutes)
    say("\n".join(tracebacks))
    wrong = [j for j in judged if j.verdict == "wrong"]
    complaints = [f"run {j.schedule.number}: {', '.join(j.complaints)}" for j in wrong]
    others = {"seed": given.seed, "runs": len(judged), "complaints": complaints, "tracebacks": tracebacks}
    write_results(NAME, tally(judged, (*RUN, *CLUSTER)), **others)
    return int(bool(wrong or tracebacks))


def lived(
    place: Stage, schedules: Sequence[Schedule], at_once: int, seconds: float
) -> tuple[list[Judged], list[str]]:
    """How each run ended that was begun in this time, and what errors the operator told of."""
    last = time.monotonic() + seconds
    twin, length = place.undisturbed()
    say(f"a run that is left alone takes {length:.0f} s: {twin}")

    def one(schedule: Schedule) -> list[Judged]:
        return [place.disturbed(schedule, twin, length)] if time.monotonic() < last else []

    with ThreadPoolExecutor(at_once) as pool:
        judged = [each for judged in pool.map(one, schedules) for each in judged]
    return judged, place.tracebacks()


@contextmanager
def stage() -> Iterator[Stage]:
    """The product on a cluster of our own, and a store with the model and its rows."""
    os.environ.pop("KUBECONFIG", None)
    with testbed.in_use() as cluster, tempfile.TemporaryDirectory() as folder:
        installation = Installation(cluster)
        installation.install()
        store = Store(storage.deploy(cluster), f"chaos-{secrets.token_hex(4)}")
        store.fill(Path(folder))
        yield Stage(installation, store)
        store.empty()
        installation.uninstall()


if __name__ == "__main__":
    sys.exit(main())

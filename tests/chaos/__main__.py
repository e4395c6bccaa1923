"""Disturbs real runs on a real cluster at random: `python -m chaos --seed 7 --runs 50`.

The table is kept in docs/results/chaos.json, unless only a part was tried. The exit status is 1 where a run
ended wrongly.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from bench.results import table, write_results
from chaos.depot import supplied
from chaos.judgement import Judged, tally
from chaos.lives import Stage
from chaos.schedule import EVERYTHING, Schedule, chosen, drawn
from chaos.subjects import SUBJECTS, TINY, Subject
from cluster import testbed
from cluster.process import say
from e2e.installation import Installation

NAME: Final = "chaos"
AT_ONCE: Final = 3
"""Runs beside each other: much of a run is waiting."""
EXAMPLES: Final = """
examples:
  python -m chaos --seed 7 --runs 16            three runs at a time, each struck up to three times
  python -m chaos --seed 7 --runs 16 --only 5   the fifth of these again, alone
  python -m chaos --only "the store full" --runs 2 --at-once 1
                                                two runs, each struck by this once, and nothing else
  python -m chaos --only operator --runs 10     each by one of those whose name has the word

disturbances:
"""


def main() -> int:
    given = options().parse_args()
    schedules = drawn(given.seed, given.runs, given.only)
    say(f"the seed is {given.seed}")
    with stage(SUBJECTS[given.model]) as place:
        judged, tracebacks = lived(place, schedules, given.at_once, 60 * given.minutes)
    say("\n".join(tracebacks))
    wrong = [j for j in judged if j.verdict == "wrong"]
    complaints = [f"run {j.schedule.number}: {', '.join(j.complaints)}" for j in wrong]
    others = {"seed": given.seed, "runs": len(judged), "complaints": complaints, "tracebacks": tracebacks}
    rows = tally(judged, EVERYTHING)
    name = NAME if SUBJECTS[given.model] is TINY else f"{NAME}_{given.model}"
    if given.only is None:
        write_results(name, rows, **others)
    else:
        Console().print(table(name, rows))
        say("\n".join(complaints))
    return int(bool(wrong or tracebacks))


def only(text: str) -> int | tuple[str, ...]:
    try:
        return chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; --help lists them") from error


def options() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name}" for name in EVERYTHING)
    made = argparse.ArgumentParser(
        prog=f"python -m {NAME}",
        description="Disturbs small runs on a Kubernetes of our own, and judges how they end.",
        epilog=EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="decides what strikes when")
    made.add_argument("--runs", type=int, default=50, help="how many (%(default)s)")
    made.add_argument(
        "--model",
        choices=SUBJECTS,
        default="tiny",
        help="what they train: a tiny model (%(default)s), or the sample's, for minutes each",
    )
    made.add_argument(
        "--only",
        type=only,
        metavar="WHAT",
        help="the run of this number and no other; or a disturbance, or a part of its name: each run is "
        "struck once, by one of those that have it in their name, and no table is kept",
    )
    made.add_argument(
        "--at-once", type=int, default=AT_ONCE, help="how many live beside each other (%(default)s)"
    )
    made.add_argument("--minutes", type=float, default=240, help="begin no run after this time (%(default)s)")
    return made


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
def stage(subject: Subject) -> Iterator[Stage]:
    """The product on a cluster of our own, and a store with the model and its rows."""
    os.environ.pop("KUBECONFIG", None)
    with testbed.in_use() as cluster:
        installation = Installation(cluster)
        installation.install()
        with supplied(cluster, subject) as store:
            yield Stage(installation, store, subject)
        installation.uninstall()


if __name__ == "__main__":
    sys.exit(main())

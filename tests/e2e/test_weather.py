"""A few runs that are disturbed at random, by a seed; `make chaos` has many.

They live beside each other. Each ends with the digests of a run that was left alone, or fails with a reason
that a disturbance explains.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chaos.lives import Stage
from chaos.schedule import CLUSTER, RUN, draw
from e2e.installation import Installation
from e2e.tenant import Store

SEED: Final = 23
RUNS: Final = 4


def test_disturbed_runs_end_as_one_that_is_left_alone(installation: Installation, store: Store) -> None:
    names = (*RUN, *CLUSTER) if installation.cluster.is_ours else RUN
    place = Stage(installation, store)
    twin, length = place.undisturbed()
    with ThreadPoolExecutor(RUNS) as pool:
        lived = [pool.submit(place.disturbed, schedule, twin, length) for schedule in draw(SEED, RUNS, names)]
    judged = [each.result() for each in lived]
    assert [f"{each.schedule}: {each.complaints}" for each in judged if each.verdict == "wrong"] == []
    assert place.tracebacks() == []

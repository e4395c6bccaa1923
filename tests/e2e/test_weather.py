"""A few runs that are disturbed at random, by a seed; `make chaos` has many.

They live beside each other. Each is really struck, and ends with the digests of a run that was left alone, or
fails with a reason that a disturbance explains.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from chaos.depot import supplied
from chaos.lives import Stage
from chaos.schedule import EVERYTHING, FOR_NOBODY_BESIDE, RUN, draw
from e2e.installation import Installation
from e2e.tenant import Store

SEED: Final = 23
RUNS: Final = 4


@pytest.fixture
def place(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """With a store that may be harmed, where the cluster is ours."""
    if installation.cluster.is_ours:
        with supplied(installation.cluster) as store:
            yield Stage(installation, store)
    else:
        others: Store = request.getfixturevalue("store")
        yield Stage(installation, others)


def test_disturbed_runs_end_as_one_that_is_left_alone(place: Stage) -> None:
    bearable = [name for name in EVERYTHING if name not in FOR_NOBODY_BESIDE]
    names = bearable if place.installation.cluster.is_ours else RUN
    twin, length = place.undisturbed()
    with ThreadPoolExecutor(RUNS) as pool:
        lived = [pool.submit(place.disturbed, schedule, twin, length) for schedule in draw(SEED, RUNS, names)]
    judged = [each.result() for each in lived]
    assert [f"{each.schedule}: {each.complaints}" for each in judged if each.verdict == "wrong"] == []
    assert [f"{each.schedule}: nothing was struck" for each in judged if not each.struck] == []
    assert place.tracebacks() == []

"""A Job that gets no pod, as the controller of Jobs may forget it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from lorafinetune.core.observed import REMINDED_ANNOTATION
from lorafinetune.core.plan import Plan
from unit.world import World

MINUTE: Final = timedelta(minutes=1)
REMINDED: Final[dict[str, tuple[dict[str, Any], timedelta, str, timedelta | None]]] = {
    "a Job that has just begun is waited for": ({}, MINUTE, "", 4 * MINUTE),
    "one without a pod for five minutes is changed": ({}, 5 * MINUTE, "1", 5 * MINUTE),
    "it is changed once in five minutes": ({"reminded": "1"}, 7 * MINUTE, "", 3 * MINUTE),
    "it is changed again after five more": ({"reminded": "1"}, 11 * MINUTE, "2", 4 * MINUTE),
    "what another has written there is of no account": ({"reminded": "soon"}, 6 * MINUTE, "1", 4 * MINUTE),
    "one with a pod is left alone": ({"pods": 1}, 20 * MINUTE, "", None),
    "one that no controller has seen yet is left alone": ({"started": None}, 20 * MINUTE, "", None),
    "one that a queue holds is left alone": ({"state": "queued"}, 20 * MINUTE, "", None),
}


def planned(world: World, changes: dict[str, Any], later: timedelta) -> Plan:
    """The plan for a Job without a pod, but for these changes, so much later."""
    world.settle()
    job = world.active()
    assert job is not None
    world.now += later
    world.jobs[job.name] = replace(job, **{"pods": 0, **changes})
    return world._decide(frozenset(world.jobs))


@pytest.mark.parametrize("sentence", REMINDED)
def test_it(sentence: str) -> None:
    changes, later, count, again = REMINDED[sentence]
    world = World()
    made = planned(world, changes, later)
    patch = {"metadata": {"annotations": {REMINDED_ANNOTATION: count}}}
    assert made.patch == (tuple((name, patch) for name in world.jobs) if count else ())
    assert made.check_again == again


def test_on_one_machine_nothing_is_reminded() -> None:
    world = World()
    world.settings = replace(world.settings, local=True)
    made = planned(world, {}, 20 * MINUTE)
    assert (made.patch, made.check_again) == ((), None)

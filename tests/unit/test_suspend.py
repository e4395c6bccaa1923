"""What `suspend` and `resume` say, for every state that a run can be in, and that the operator does so."""

from collections.abc import Callable

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.cli.suspend import resumed, suspended
from unit.test_plan import run_until
from unit.world import World

Step = Callable[[World], object]


def queued(world: World) -> None:
    run_until("train")(world)
    world.hold("no GPU is free")
    world.settle()


def failed(world: World) -> None:
    run_until("train")(world)
    world.fail(Reason.LOSS_DIVERGED)
    world.settle()


def suspend(world: World) -> None:
    world.edit({"suspend": True})


SUSPENDED: dict[str, tuple[list[Step], str, str]] = {
    "before the operator has looked at it": ([], "suspended: nothing of it runs before R", "Suspended"),
    "in its download": (
        [run_until("download")],
        "suspended: download stops, and R runs it again",
        "Suspended",
    ),
    "in its prepare": (
        [run_until("prepare")],
        "suspended: prepare stops, and R runs it again",
        "Suspended",
    ),
    "in its queue": (
        [queued],
        "suspended: train waits, and does not begin before R",
        "Suspended",
    ),
    "in its training": (
        [run_until("train")],
        "suspended: train stops after a checkpoint, and R goes on from there",
        "Suspended",
    ),
    "in its export": (
        [run_until("export")],
        "suspended: export stops, and R runs it again",
        "Suspended",
    ),
    "once it is complete": (
        [World.run_to_end],
        "is complete, and stays so; what an edit asks for waits for R",
        "Complete",
    ),
    "once it has failed": (
        [failed],
        "suspended: it has failed, and is not tried again before R",
        "Suspended",
    ),
    "a second time": (
        [run_until("train"), suspend, World.settle],
        "is suspended already; R lets it go on",
        "Suspended",
    ),
    "just after it was resumed": (
        [run_until("train"), suspend, World.settle, lambda w: w.edit({"suspend": False})],
        "suspended: nothing of it runs before R",
        "Suspended",
    ),
}


@pytest.mark.parametrize("sentence", SUSPENDED)
def test_a_run_is_suspended(sentence: str) -> None:
    steps, expected, stage = SUSPENDED[sentence]
    world = World()
    for step in steps:
        step(world)
    assert suspended(world.resource.encode(), "R") == expected
    suspend(world)
    world.settle()
    assert world.status.stage == stage
    assert world.active() is None


RESUMED: dict[str, tuple[list[Step], str]] = {
    "that was suspended": ([run_until("train"), suspend, World.settle], "resumed"),
    "that was suspended just now": ([run_until("train"), suspend], "resumed"),
    "that was not suspended": ([run_until("train")], "was not suspended"),
    "that is complete": ([World.run_to_end], "was not suspended"),
}


@pytest.mark.parametrize("sentence", RESUMED)
def test_a_run_is_resumed(sentence: str) -> None:
    steps, expected = RESUMED[sentence]
    world = World()
    for step in steps:
        step(world)
    assert resumed(world.resource.encode()) == expected

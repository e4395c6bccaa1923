"""What the conditions of a run say, cell by cell, in each of its situations."""

from datetime import timedelta

import pytest

from builders import NOW
from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import REFRESH_ANNOTATION
from lorafinetune.api.status import Condition
from lorafinetune.contract.times import rfc3339
from unit.test_plan import Step, done, run_until
from unit.world import World

COLUMNS = ("Ready", "Reconciling", "Stalled", "Complete", "Failed")
Cells = tuple[str | None, ...]


def failed(world: World) -> None:
    run_until("prepare")(world)
    world.fail(Reason.DATASET_INVALID)
    world.settle()


def condition(world: World, kind: str) -> Condition | None:
    return next((each for each in world.status.conditions if each.type == kind), None)


def cells(world: World) -> Cells:
    told = {each.type: each.status for each in world.status.conditions}
    return tuple(told.get(kind) for kind in COLUMNS)


QUEUED = {"scheduling": {"queueName": "gpus"}}
MOVING: Cells = ("False", "True", "False", None, None)
SITUATIONS: dict[str, tuple[list[Step], Cells, str]] = {
    "it runs": ([run_until("train")], MOVING, "Train"),
    "it is queued": ([lambda w: w.edit(QUEUED), run_until("train")], MOVING, "Queued"),
    "it waits for a person": (
        [World.settle, lambda w: w.trouble(Reason.SECRET_MISSING), World.reconcile],
        MOVING,
        "SecretMissing",
    ),
    "it stops": (
        [run_until("train"), lambda w: w.edit({"suspend": True}), World.reconcile],
        MOVING,
        "Stopping",
    ),
    "it is suspended": (
        [run_until("train"), lambda w: w.edit({"suspend": True}), World.settle],
        ("False", "False", "False", None, None),
        "Suspended",
    ),
    "it is done": ([done], ("True", "False", "False", "True", None), "Complete"),
    "it has failed": ([failed], ("False", "False", "True", None, "True"), "DatasetInvalid"),
}
"""What happened, the cells in the order of COLUMNS (None: it is absent), and the reason of Ready."""


@pytest.mark.parametrize("sentence", SITUATIONS)
def test_the_conditions_where(sentence: str) -> None:
    steps, wanted, reason = SITUATIONS[sentence]
    world = World()
    for step in steps:
        step(world)
    ready = condition(world, "Ready")
    assert ready is not None
    assert (cells(world), ready.reason) == (wanted, reason)
    generation = world.resource.metadata.generation
    assert {each.observed_generation for each in world.status.conditions} == {generation}
    assert world.status.observed_generation == generation


def edit(world: World) -> None:
    world.edit({"training": {"learningRate": "2e-4"}})


def refresh(world: World) -> None:
    world.annotate(REFRESH_ANNOTATION, "2")


BEGUN_ANEW: dict[str, list[Step]] = {
    "an edit of one that is complete": [done, edit],
    "an edit of one that has failed": [failed, edit],
    "a refresh of one that is complete": [done, refresh],
    "a refresh of one that has failed": [failed, refresh],
}


@pytest.mark.parametrize("sentence", BEGUN_ANEW)
def test_the_first_write_says_of_no_end_after(sentence: str) -> None:
    """`kubectl wait --for=condition=Complete` must not be told of the end of an earlier generation."""
    world = World()
    for step in BEGUN_ANEW[sentence]:
        step(world)
    world.reconcile()
    assert cells(world) == MOVING
    assert world.status.failure is None


def test_an_edit_that_changes_nothing_of_what_is_done_leaves_it_complete_for_the_new_generation() -> None:
    world = World()
    world.run_to_end()
    world.edit({"ttlSecondsAfterFinished": 60})
    world.reconcile()
    complete = condition(world, "Complete")
    assert complete is not None
    assert (complete.status, complete.observed_generation) == ("True", 2)


def since(world: World, kind: str) -> str:
    found = condition(world, kind)
    assert found is not None
    return found.last_transition_time


def test_a_transition_is_when_the_status_changes_whatever_the_reason() -> None:
    world = World()
    world.settle()
    world.now += timedelta(minutes=1)
    world.trouble(Reason.UNSCHEDULABLE)
    world.reconcile()
    ready = condition(world, "Ready")
    assert ready is not None
    assert (ready.reason, ready.last_transition_time) == ("Unschedulable", rfc3339(NOW))
    world.trouble(None)
    world.run_to_end()
    assert since(world, "Ready") == since(world, "Reconciling") == since(world, "Complete") > rfc3339(NOW)
    assert since(world, "Stalled") == rfc3339(NOW)

"""The points of a matrix, and the changes of a spec: that none is left out."""

import pytest

from builders import document
from faults.mutations import OTHERS, WHOLE, every_mutation, unset
from faults.points import EVENT_FAULTS, WRITE_FAULTS, part, points
from lorafinetune.api.codec import decode
from lorafinetune.api.crd import crd
from lorafinetune.core.checks import first_violation
from lorafinetune.core.jobs import Settings

SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_every_fault_is_tried_at_every_write_and_event() -> None:
    found = points(3, {"jobs": 2})
    assert len(set(found)) == len(found) == 3 * len(WRITE_FAULTS) + 2 * len(EVENT_FAULTS)


def test_a_part_is_the_same_for_the_same_seed_and_all_where_it_is_the_whole() -> None:
    every = list(range(100))
    assert part(every, 0.2, 7) == part(every, 0.2, 7)
    assert len(part(every, 0.2, 7)) == 20
    assert part(every, 1, 7) == every


@pytest.mark.parametrize("spec", [WHOLE, *OTHERS.values()], ids=["whole", *OTHERS])
def test_the_spec_that_is_changed_is_valid(spec: dict[str, object]) -> None:
    assert first_violation(decode(document() | {"spec": spec}), Settings()) is None


def test_every_property_of_the_definition_is_changed() -> None:
    assert unset(SCHEMA, WHOLE) == OTHERS.keys()
    changed = {mutation.path for mutation in every_mutation(SCHEMA)}
    assert ("training", "maxSteps") in changed
    assert ("datasets", 0, "clean", "dropIntroLine") in changed


def test_no_change_is_made_twice() -> None:
    every = [str(mutation) for mutation in every_mutation(SCHEMA)]
    assert len(set(every)) == len(every)

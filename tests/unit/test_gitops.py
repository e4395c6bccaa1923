"""What Argo CD and Flux conclude from every situation of a run, by their own languages."""

from pathlib import Path
from typing import Any, Final

import cel
import lupa.lua51
import pytest
import yaml

from builders import NOW
from lorafinetune.api.codec import InvalidResourceError
from lorafinetune.api.problem import Problem
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.conditions import ENDS
from lorafinetune.shell import invalid_resource
from unit.test_plan import SITUATIONS
from unit.world import World

SAMPLES: Final = Path(__file__).parents[2] / "samples" / "gitops"
ARGO: Final = yaml.safe_load((SAMPLES / "argocd-cm.yaml").read_text())["data"]
FLUX: Final = yaml.safe_load((SAMPLES / "flux.yaml").read_text())["spec"]["healthCheckExprs"][0]
EXPRESSIONS: Final = ("inProgress", "failed", "current")
"""In the order in which Flux asks; the first that holds counts."""
CONCLUSIONS: Final = {
    "Complete": ("Healthy", "current"),
    "Failed": ("Degraded", "failed"),
    "Suspended": ("Suspended", "inProgress"),
}
GOING_ON: Final = ("Progressing", "inProgress")


def argo(run: dict[str, Any]) -> tuple[str, str]:
    """Health and message."""
    lua = lupa.lua51.LuaRuntime()
    health = lua.execute("obj = ...\n" + next(iter(ARGO.values())), lua.table_from(run, recursive=True))
    return str(health["status"]), str(health["message"])


def flux(run: dict[str, Any]) -> str:
    """The first expression that holds; empty where none does, which to Flux is in progress, too."""
    return next((name for name in EXPRESSIONS if cel.evaluate(FLUX[name], run)), "")


def test_the_situations_have_every_stage_and_end() -> None:
    assert {stage for _, stage, *_ in SITUATIONS.values()} == {*ENDS, *(name.title() for name in STAGES)}


@pytest.mark.parametrize("sentence", SITUATIONS)
def test_a_situation_is_the_same_to_both(sentence: str) -> None:
    steps, stage, _, _ = SITUATIONS[sentence]
    world = World()
    for step in steps:
        step(world)
    run = world.resource.encode()
    health, message = argo(run)
    assert (health, flux(run)) == CONCLUSIONS.get(stage, GOING_ON)
    assert message


def test_an_edit_that_nobody_has_looked_at_yet_is_going_on() -> None:
    world = World()
    world.run_to_end()
    world.edit({"training": {"learningRate": "2e-4"}})
    run = world.resource.encode()
    assert (argo(run)[0], flux(run)) == GOING_ON


def test_a_resource_that_the_operator_can_t_read_is_going_on_once_somebody_mends_it() -> None:
    run = World().resource.encode()
    status = invalid_resource.status_of(run, InvalidResourceError((Problem(("spec",), "is unknown"),)), NOW)
    assert (argo(run | {"status": status})[0], flux(run | {"status": status})) == GOING_ON


def test_a_resource_that_nobody_has_seen_yet_is_going_on() -> None:
    assert argo(World().resource.encode())[0] == "Progressing"

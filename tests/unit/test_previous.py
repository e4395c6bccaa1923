"""An upgrade is tried from a program that is another one, and whose runs go on under today's operator."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cluster.process import CommandError, run
from documents import ROOT
from e2e.previous import FLOOR, checked_out
from lorafinetune.api.codec import decode
from lorafinetune.contract.outcome import decode_message
from unit.world import World

PROGRAM: Final = Path(__file__).with_name("previous_runs.py")
DIFFERENT: Final = ("operator/lorafinetune/api", "operator/lorafinetune/contract", "crds")
STAGES: Final = ["Download", "Prepare", "Train", "Export", "Complete"]
Moment = dict[str, Any]


@pytest.fixture(scope="module")
def earlier() -> Iterator[Path]:
    """The files of FLOOR, which every clone has that is not shallow."""
    if not has_history():
        pytest.skip("the history is not here: a shallow clone")
    with checked_out(FLOOR) as folder:
        yield folder


def has_history() -> bool:
    try:
        return run("git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository").strip() == "false"
    except CommandError:
        return False


@pytest.fixture(scope="module")
def moments(earlier: Path) -> list[Moment]:
    path = os.pathsep.join([str(earlier / "operator"), str(earlier / "tests")])
    found: list[Moment] = json.loads(
        run(sys.executable, "-P", str(PROGRAM), environment={"PYTHONPATH": path})
    )
    return found


@pytest.mark.parametrize("part", DIFFERENT)
def test_what_operator_and_stages_share_differs(part: str, earlier: Path) -> None:
    assert run("git", "-C", str(ROOT), "diff", "--name-only", FLOOR, "--", part)


def test_the_definition_differs_in_more_than_its_words(earlier: Path) -> None:
    before, now = (
        without_words(yaml.safe_load((folder / "crds/lorafinetunes.yaml").read_text()))
        for folder in (earlier, ROOT)
    )
    assert before != now


def without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_words(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    told = isinstance(schema.get("description"), str)
    return {
        name: without_words(part) for name, part in schema.items() if not (told and name == "description")
    }


def test_its_runs_come_from_every_stage(moments: list[Moment]) -> None:
    assert [moment["resource"]["status"]["stage"] for moment in moments] == STAGES


@pytest.mark.parametrize("number", range(len(STAGES)), ids=STAGES)
def test_the_operator_of_today_leaves_its_run_as_it_is(number: int, moments: list[Moment]) -> None:
    moment = moments[number]
    world = World()
    world.resource = decode(moment["resource"])
    take_over(world, moment)
    made = world.reconcile()
    assert (made.create, made.delete, made.patch) == ((), (), ())
    assert world.resource.encode() == moment["resource"]


def take_over(world: World, moment: Moment) -> None:
    """The Jobs, and what those that have ended have left."""
    for job in moment["jobs"]:
        world.adopt(job)
        if message := moment["messages"].get(job["metadata"]["name"]):
            active = world.active()
            assert active
            world.end(decode_message(active.stage, message))

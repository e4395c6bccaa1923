"""An upgrade from the release before this one, or from FLOOR, while one run is complete and one trains."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from cluster.product import ROOT
from e2e import previous
from e2e.installation import DEFINITION, Installation, until
from e2e.tenant import Store, Tenant

pytestmark = pytest.mark.e2e

STEPS = 2000
SHORT: dict[str, Any] = {"training": {"maxSteps": 2, "evaluation": None, "checkpoint": None}}
LONG: dict[str, Any] = {"training": {"maxSteps": STEPS, "checkpoint": {"every": 100}, "evaluation": None}}


@dataclass(frozen=True)
class Upgrade:
    """A tenant, and what there was before it. finished: versions by uid. training: name of the pod."""

    tenant: Tenant
    finished: dict[str, str]
    training: str


@pytest.fixture(scope="module")
def upgrade(installation: Installation, store: Store) -> Iterator[Upgrade]:
    """From an installation that was made by what was before, and by nothing else, to ours."""
    if not (commit := previous.commit()):
        pytest.skip(previous.MISSING)
    installation.uninstall()
    with previous.built(commit) as before:
        installation.install(installation.images(before.images), before.chart)
    tenant = Tenant(installation, store)
    tenant.give_secret()
    tenant.apply("busy", changes=LONG)
    tenant.apply("done", changes=SHORT)
    tenant.wait("Complete", "done")
    tenant.wait_for_checkpoint("busy")
    made = Upgrade(tenant, finished(tenant), tenant.running_pod("train"))
    installation.install()
    yield made
    tenant.leave()


def finished(tenant: Tenant) -> dict[str, str]:
    """The version of all that belongs to the run that is complete."""
    found = [each["metadata"] for each in (tenant.get("done"), *tenant.jobs(name="done"))]
    return {each["uid"]: each["resourceVersion"] for each in found}


def test_the_definition_is_that_of_this_commit(upgrade: Upgrade) -> None:
    ours = yaml.safe_load((ROOT / "crds" / "lorafinetunes.yaml").read_text())
    there = upgrade.tenant.installation.get("crd", DEFINITION)
    assert there["spec"]["versions"] == ours["spec"]["versions"]


def test_a_training_that_ran_goes_on_and_is_heard(upgrade: Upgrade) -> None:
    tenant = upgrade.tenant
    step = tenant.status("busy")["training"]["step"]
    until(lambda: tenant.status("busy")["training"]["step"] > step, 60)
    assert tenant.status("busy")["stage"] == "Train"
    assert tenant.running_pod("train") == upgrade.training


def test_it_ends_as_if_nothing_had_happened(upgrade: Upgrade) -> None:
    status = upgrade.tenant.wait("Complete", "busy")
    assert (status["training"]["step"], status.get("resumes", 0)) == (STEPS, 0)
    assert [stage["attempts"] for stage in status["stages"]] == [0, 0, 0, 0]
    jobs = {job["metadata"]["name"] for job in upgrade.tenant.jobs(name="busy")}
    assert jobs == {stage["job"] for stage in status["stages"]}


def test_what_was_complete_is_left_alone(upgrade: Upgrade) -> None:
    assert finished(upgrade.tenant) == upgrade.finished

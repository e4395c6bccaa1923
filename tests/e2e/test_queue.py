"""Trainings that share one seat through a real Kueue: the seat stands in for a GPU."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.testbed import Cluster
from documents import ROOT, Typist
from e2e.installation import Installation, until
from e2e.kueue import Kueue
from e2e.tenant import Object, Store, Tenant
from lorafinetune.core.observed import NAME_LABEL

pytestmark = pytest.mark.e2e

SEAT: Final = "example.com/seat"
QUEUE: Final = "gpus"
API: Final = "kueue.x-k8s.io/v1beta2"
PLENTY: Final = "1000G"
QUOTA: Final = {SEAT: "1", "cpu": "100", "memory": PLENTY, "ephemeral-storage": PLENTY}
QUEUED: Final[dict[str, Any]] = {
    "scheduling": {"queueName": QUEUE},
    "resources": {"train": {"requests": {SEAT: "1"}, "limits": {SEAT: "1"}}},
}
STEPS, EVERY = 3000, 100
PATIENT: Final = QUEUED | {
    "training": {"maxSteps": STEPS, "checkpoint": {"every": EVERY}, "evaluation": None},
}
URGENT: Final = QUEUED | {"training": {"maxSteps": 20, "seed": 7}}


@pytest.fixture(scope="module")
def kueue(cluster: Cluster) -> Iterator[None]:
    made = Kueue(cluster)
    made.install()
    yield
    made.uninstall()


@pytest.fixture(scope="module")
def tenant(kueue: None, installation: Installation, store: Store) -> Iterator[Tenant]:
    """A tenant whose LocalQueue has one seat."""
    made = Tenant(installation, store)
    made.give_nodes(SEAT)
    made.give_secret()
    for wanted in queue(made.namespace):
        made.apply_object(wanted)
    yield made
    made.leave()
    installation.kubectl("delete", "priorityclass", made.namespace)
    made.kubectl("delete", f"localqueues.{API.partition('/')[0]}", QUEUE)
    for kind in ("clusterqueues", "resourceflavors"):
        installation.kubectl("delete", f"{kind}.{API.partition('/')[0]}", made.namespace)


def queue(name: str) -> Iterator[Object]:
    """A flavor, a ClusterQueue that preempts by priority, the LocalQueue, and a priority."""
    yield {"apiVersion": API, "kind": "ResourceFlavor", "metadata": {"name": name}}
    quotas = [{"name": resource, "nominalQuota": quota} for resource, quota in QUOTA.items()]
    group = {"coveredResources": list(QUOTA), "flavors": [{"name": name, "resources": quotas}]}
    yield {
        "apiVersion": API,
        "kind": "ClusterQueue",
        "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [group],
        },
    }
    yield {
        "apiVersion": API,
        "kind": "LocalQueue",
        "metadata": {"name": QUEUE},
        "spec": {"clusterQueue": name},
    }
    yield {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": 1000,
        "preemptionPolicy": "Never",
    }


def told(tenant: Tenant, name: str) -> str:
    """What the run says of its queue; empty where it waits in none."""
    conditions = tenant.status(name).get("conditions", [])
    return next((c["message"] for c in conditions if c["type"] == "Queued" and c["status"] == "True"), "")


def watched(tenant: Tenant, name: str) -> str:
    """What `lorafinetune watch` says in its first ten seconds."""
    command = Path(sys.executable).with_name("lorafinetune")
    where = f"-n {tenant.namespace} --kubeconfig '{tenant.installation.cluster.kubeconfig}'"
    return Typist(ROOT).type(f"timeout 10 '{command}' watch {name} {where} || true")


def test_a_training_starts_once_kueue_has_a_seat_for_it(tenant: Tenant) -> None:
    tenant.apply("patient", PATIENT)
    assert tenant.wait_for_checkpoint("patient") >= EVERY


def test_one_that_waits_says_in_kueue_s_words_why_while_its_data_is_prepared(tenant: Tenant) -> None:
    tenant.apply("urgent", URGENT)
    message = until(lambda: told(tenant, "urgent").partition(": ")[2], 120)
    assert f"insufficient unused quota for {SEAT}" in message
    stages = {stage["name"]: stage["state"] for stage in tenant.status("urgent")["stages"]}
    assert stages | {"train": "Waiting"} == stages
    assert stages["download"] == stages["prepare"] == "Complete"
    assert f"insufficient unused quota for {SEAT}" in watched(tenant, "urgent")
    line = tenant.kubectl("get", "lorafinetune", "urgent", "--no-headers").split()
    assert (line[1], line[-1]) == ("Train", "Queued")


def test_a_more_important_one_takes_the_seat_and_the_other_waits_with_its_checkpoint(tenant: Tenant) -> None:
    tenant.edit("urgent", {"scheduling": {"priorityClassName": tenant.namespace}})
    assert until(lambda: told(tenant, "patient"), 120)
    assert tenant.wait("Complete", "urgent")["training"]["step"] == 20
    assert tenant.status("patient").get("stages", [])[2].get("attempts", 0) == 0


def test_it_goes_on_from_there_when_the_seat_is_free_again(tenant: Tenant) -> None:
    status = tenant.wait("Complete", "patient")
    assert (status["training"]["step"], status["resumes"]) == (STEPS, 1)


def test_nothing_but_trainings_was_queued_and_exporting_held_no_seat(tenant: Tenant) -> None:
    workloads = tenant.installation.get("workloads.kueue.x-k8s.io", f"--namespace={tenant.namespace}")[
        "items"
    ]
    owners = {owner["name"] for made in workloads for owner in made["metadata"]["ownerReferences"]}
    trainings = {
        job["metadata"]["name"] for name in ("patient", "urgent") for job in tenant.jobs("train", name)
    }
    assert owners
    assert owners <= trainings
    again = max(pod["status"]["startTime"] for pod in tenant.pods("train") if _is_of(pod, "patient"))
    done = next(c for c in tenant.status("urgent")["conditions"] if c["type"] == "Complete")
    assert again <= done["lastTransitionTime"]


def _is_of(pod: Object, name: str) -> bool:
    return bool(pod["metadata"]["labels"][NAME_LABEL] == name)

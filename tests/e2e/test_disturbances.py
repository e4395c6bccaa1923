"""A training that is disturbed in every way people have: it ends as if nothing had happened."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.testbed import Cluster
from e2e.installation import NAMESPACE, Installation, until
from e2e.jobs import outcome, python_job
from e2e.tenant import Object, Store, Tenant

pytestmark = pytest.mark.e2e

STEPS, EVERY = 7000, 100
SEAT = "example.com/seat"
"""What a node has one of, and a training needs, as if it were a GPU."""
LONG: dict[str, Any] = {
    "training": {"maxSteps": STEPS, "checkpoint": {"every": EVERY}, "evaluation": None},
    "resources": {"train": {"requests": {SEAT: "1"}, "limits": {SEAT: "1"}}},
}
"""Long enough to be disturbed five times."""
TOLD_WITHIN = 10.0
WENT_ON_FROM: list[int] = []
"""The steps, in the order of the tests."""


@pytest.fixture(scope="module")
def tenant(installation: Installation, store: Store) -> Iterator[Tenant]:
    """A tenant whose training runs and has a checkpoint."""
    made = Tenant(installation, store)
    made.give_nodes(SEAT)
    made.give_secret()
    made.apply(changes=LONG)
    made.wait_for_checkpoint()
    yield made
    made.leave()


def test_a_run_that_prepares_is_suspended_and_goes_on_when_resumed(
    installation: Installation, store: Store
) -> None:
    tenant = Tenant(installation, store)
    tenant.give_secret()
    tenant.apply()
    tenant.running_pod("prepare")
    tenant.edit("tune", {"suspend": True})
    tenant.wait("Suspended", within=60)
    assert tenant.pods() == [] or {p["status"]["phase"] for p in tenant.pods()} <= {"Succeeded", "Failed"}
    tenant.edit("tune", {"suspend": False})
    until(lambda: tenant.status()["stages"][1]["state"] == "Complete", 120)
    tenant.leave()


def urgent_job(tenant: Tenant) -> Object:
    """A Job that takes the seat from whoever is less important, and soon gives it back."""
    cluster, name = tenant.installation.cluster, f"urgent-{tenant.namespace}"
    metadata = {"name": name}
    cluster.client.apply(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": 1000}
    )
    resources = {"requests": {SEAT: "1"}, "limits": {SEAT: "1"}}
    script = "import time; time.sleep(3)"
    return python_job(
        cluster, tenant.namespace, script, priorityClassName=name, container={"resources": resources}
    )


def goes_on(tenant: Tenant, resumes: int) -> int:
    """The training has gone on, for so many times by now, and made another checkpoint; the step of the one
    that it went on from, as its log says."""
    until(lambda: tenant.status().get("resumes", 0) == resumes, 180)
    log = tenant.installation.cluster.client.log(tenant.namespace, tenant.running_pod("train"))
    (step,) = map(int, re.findall(r"going on from the checkpoint of step (\d+)", log))
    until(lambda: tenant.status()["checkpoint"]["step"] > step, 120)
    return step


def preemptions(tenant: Tenant) -> list[str]:
    """What the Events say of pods that were taken away."""
    return [message for reason, message in tenant.events() if reason == "Preempted"]


def test_it_shows_how_far_it_is(tenant: Tenant) -> None:
    status = until(lambda: tenant.status() if tenant.status().get("loss") else {}, 60)
    assert 0 < status["training"]["step"] < status["training"]["totalSteps"] == STEPS
    assert status["progress"].endswith("%")


def test_an_operator_that_is_killed_is_not_missed(tenant: Tenant, installation: Installation) -> None:
    pod = tenant.running_pod("train")
    operator = installation.operator_pod()
    installation.kubectl("delete", "pod", operator, f"--namespace={NAMESPACE}", "--grace-period=0", "--force")
    assert installation.operator_pod() != operator
    step = tenant.status()["training"]["step"]
    until(lambda: tenant.status()["training"]["step"] > step, 60)
    assert tenant.running_pod("train") == pod


def test_a_pod_that_is_deleted_is_replaced_and_goes_on(tenant: Tenant) -> None:
    tenant.kubectl("delete", "pod", tenant.running_pod("train"), "--wait=false")
    WENT_ON_FROM.append(goes_on(tenant, resumes=1))
    (told,) = preemptions(tenant)
    assert "checkpoint" in told


def test_a_pod_that_is_evicted_is_replaced_and_goes_on(tenant: Tenant) -> None:
    pod = tenant.running_pod("train")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{tenant.namespace}/pods/{pod}/eviction"
    tenant.installation.cluster.client.request("POST", path, eviction)
    told = until(lambda: [message for message in preemptions(tenant) if pod in message], 10)
    assert told == [f"the pod {pod} was evicted or preempted: Eviction API: evicting"]
    WENT_ON_FROM.append(goes_on(tenant, resumes=2))
    assert len(preemptions(tenant)) == 2


def test_a_pod_that_gives_way_to_a_more_important_one_is_replaced_and_goes_on(tenant: Tenant) -> None:
    pod = tenant.running_pod("train")
    outcome(tenant.installation.cluster, urgent_job(tenant), within=120)
    WENT_ON_FROM.append(goes_on(tenant, resumes=3))
    told = preemptions(tenant)[2:]
    assert len(told) == 1
    assert told[0].startswith(f"the pod {pod} was evicted or preempted: ")
    assert "higher priority" in told[0]


def test_a_suspended_one_leaves_after_a_checkpoint_and_goes_on_when_resumed(tenant: Tenant) -> None:
    tenant.edit("tune", {"suspend": True})
    tenant.wait("Suspended", within=60)
    assert [p for p in tenant.pods("train") if p["status"]["phase"] == "Running"] == []
    tenant.edit("tune", {"suspend": False})
    WENT_ON_FROM.append(goes_on(tenant, resumes=4))


def elsewhere(job: Object) -> Object:
    """The same training as another cluster with the same store begins it: no operator here knows of it."""
    template = {"metadata": {}, "spec": job["spec"]["template"]["spec"]}
    container = {**template["spec"]["containers"][0], "resources": {}}
    template["spec"] |= {"containers": [container]}
    metadata = {"name": "elsewhere", "namespace": job["metadata"]["namespace"]}
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def test_of_two_clusters_that_train_the_same_the_last_to_begin_stops_the_other(tenant: Tenant) -> None:
    (running,) = (job for job in tenant.jobs("train") if job["status"].get("active"))
    attempt = elsewhere(running)
    tenant.apply_object(attempt)
    failure = tenant.wait_for_reason("Superseded", within=120)
    assert re.search(
        r"this is attempt \d+ at the training, and attempt \d+ has begun elsewhere", failure["message"]
    )
    goes_on(tenant, resumes=6)  # the other was one, too
    assert '"reason":"Superseded"' in outcome(tenant.installation.cluster, attempt, within=120)


def test_another_resource_with_the_same_key_waits(tenant: Tenant) -> None:
    tenant.apply("twin", changes=LONG)
    until(lambda: tenant.reason("Ready", "twin") == "WaitingForSameKey", 120)
    assert tenant.jobs("train", "twin") == []


def test_nothing_is_counted_of_what_came_further_and_both_end_with_one_training(tenant: Tenant) -> None:
    status, twin = tenant.wait("Complete"), tenant.wait("Complete", "twin")
    assert (status["training"]["step"], status["resumes"]) == (STEPS, 6)
    assert [stage["attempts"] for stage in status["stages"]] == [0, 0, 0, 0]
    pages = [run["artifacts"].pop("report").split("/")[-2] for run in (status, twin)]
    assert pages[1] == "twin" != pages[0]
    assert status["artifacts"] == twin["artifacts"]
    assert len(tenant.jobs("train") + tenant.jobs("train", "twin")) == 1


def test_each_went_on_from_where_it_was_stopped_and_not_from_the_last_regular_checkpoint() -> None:
    assert [step for step in WENT_ON_FROM if step % EVERY]


def test_an_edit_stops_the_old_training_before_the_new_one_starts(tenant: Tenant) -> None:
    tenant.kubectl("delete", "lorafinetune", "--all")
    tenant.apply(
        "edited", changes=LONG | {"training": LONG["training"] | {"maxSteps": 10 * STEPS, "seed": 7}}
    )
    old = tenant.running_pod("train")
    tenant.edit("edited", {"training": {"learningRate": "5e-4"}})
    until(lambda: tenant.status("edited")["observedGeneration"] == 2, 30)
    new = until(lambda: next((p for p in tenant.pods("train") if p["metadata"]["name"] != old), None), 180)
    assert new
    assert [p["metadata"]["name"] for p in tenant.pods("train")] == [new["metadata"]["name"]]


def test_a_node_that_falls_silent_is_told_and_nothing_is_lost_once_it_answers_again(tenant: Tenant) -> None:
    cluster, pod = tenant.installation.cluster, tenant.running_pod("train")
    if not cluster.is_ours:
        pytest.skip("only a node of our own can be silenced")
    with cluster.silent_node():
        until(lambda: unheard_of(cluster), 120)
        failure = tenant.wait_for_reason("NodeLost", "edited", TOLD_WITHIN)
        assert failure["message"] == "the node node does not answer"
    until(lambda: tenant.reason("Ready", "edited") == "Train", 60)
    step = tenant.status("edited")["training"]["step"]
    until(lambda: tenant.status("edited")["training"]["step"] > step, 60)
    assert tenant.running_pod("train") == pod


def unheard_of(cluster: Cluster) -> bool:
    (node,) = cluster.client.get("/api/v1/nodes")["items"]
    return any(c["type"] == "Ready" and c["status"] == "Unknown" for c in node["status"]["conditions"])


def test_deleting_it_takes_its_jobs_and_pods(tenant: Tenant) -> None:
    tenant.kubectl("delete", "lorafinetune", "edited")
    until(lambda: not tenant.jobs(name="edited") and not tenant.pods(), 150)
    assert tenant.store.keys(f"{tenant.namespace}/prepared/")

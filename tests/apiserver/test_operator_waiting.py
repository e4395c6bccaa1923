"""What keeps a run from getting on, against the real API server and the real Job controller."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apiserver.operating import MERGE, Namespace, Object, Operator, outcome_of, uid
from builders import error, result
from cluster.apiserver import ApiServer
from cluster.build import binary
from cluster.client import ApiError
from cluster.process import run
from lorafinetune.api.reasons import Reason
from lorafinetune.core.jobs import QUEUE_LABEL

MENDED_WITHIN = 300.0
"""Seconds. The documentation promises ten minutes; it is the Job controller that waits, longer each time."""
HELD = 2.0
"""Seconds in a queue; the times of a Job are whole seconds."""
SAID_WITHIN = 10.0
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
QUEUED: dict[str, Any] = {"scheduling": {"queueName": "gpus"}}


@pytest.fixture
def hasty_operator(identity: Path, own_namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator of its own namespace that takes a node for lost after seconds."""
    walk, transitions, pods = (f"lorafinetune.core.{name}" for name in ("walk", "transitions", "pods"))
    haste = (f"{pods}:LOST_AFTER=2", f"{transitions}:CHECK_AGAIN=1", f"{walk}:STUCK_AFTER=1")
    made = Operator(identity, tmp_path / "operator.log", own_namespace.name, haste=haste)
    made.start()
    yield made
    made.stop()


def training_of(runs: Namespace, name: str, spec: dict[str, Any] | None = None) -> Object:
    """The Job of the training of a new run."""
    runs.apply(name, spec)
    runs.finish(name, "download")
    runs.finish(name, "prepare")
    return runs.job(name, "train")


def finish_from_training(runs: Namespace, name: str, other_than: Object | None = None) -> None:
    runs.finish(name, "train", other_than)
    runs.finish(name, "export")
    runs.until(name, "Complete")


def admit(runs: Namespace, job: Object) -> None:
    """As Kueue lets a Job go."""
    where = runs.path("jobs", job["metadata"]["name"])
    runs.client.request("PATCH", where, {"spec": {"suspend": False}}, MERGE)


def columns(server: ApiServer, runs: Namespace, name: str) -> dict[str, str]:
    """What `kubectl get` shows of a run, by heading."""
    where = (f"--kubeconfig={server.kubeconfig}", f"--namespace={runs.name}")
    heading, line = run(str(binary("kubectl")), *where, "get", "lft", name).splitlines()
    starts = [found.start() for found in re.finditer(r"\S+", heading)]
    cells = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return {heading[cell].strip(): line[cell].strip() for cell in cells}


def test_a_training_that_its_queue_holds_is_told_and_goes_on_when_it_is_let_go(
    runs: Namespace, operator: Operator, served: ApiServer
) -> None:
    waited = operator.metric("lorafinetune_queue_wait_seconds_sum")
    job = training_of(runs, "queued", QUEUED)
    assert (job["spec"]["suspend"], job["metadata"]["labels"][QUEUE_LABEL]) == (True, "gpus")
    assert runs.until("queued", "Queued")["reason"] == "Queued"
    assert runs.condition("queued", "Ready")["reason"] == "Queued"
    assert runs.condition("queued", "Reconciling")["status"] == "True"
    assert runs.status("queued")["stages"][2]["state"] == "Waiting"
    shown = columns(served, runs, "queued")
    assert (shown["STAGE"], shown["PROGRESS"], shown["REASON"]) == ("Train", "", "Queued")
    time.sleep(HELD)
    admit(runs, job)
    runs.run(runs.pod(job))
    runs.until("queued", "Ready", "Train")
    assert not runs.condition("queued", "Queued")
    finish_from_training(runs, "queued")
    assert operator.metric("lorafinetune_queue_wait_seconds_sum") - waited >= HELD - 1


def test_a_queued_training_is_made_anew_after_an_edit(runs: Namespace) -> None:
    old = training_of(runs, "queued-anew", QUEUED)
    runs.until("queued-anew", "Queued")
    runs.edit("queued-anew", {"scheduling": {"nodeSelector": {"gpu": "a100"}}})
    new = runs.job("queued-anew", "train", other_than=old)
    assert new["metadata"]["name"] == old["metadata"]["name"]
    assert new["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert new["spec"]["suspend"] is True
    admit(runs, new)
    finish_from_training(runs, "queued-anew")


def test_an_edit_that_shapes_nothing_reaches_a_running_training_with_its_next_attempt(
    own_namespace: Namespace, own_operator: Operator
) -> None:
    own_operator.start()
    old = training_of(own_namespace, "later")
    pod = own_namespace.pod(old)
    own_namespace.run(pod)
    own_namespace.edit("later", {"resources": {"train": {"requests": {"cpu": "3"}}}})
    own_namespace.until("later", "Ready", "AppliesAtNextAttempt")
    assert [uid(job) for job in own_namespace.jobs_of("later", "train")] == [uid(old)]
    own_namespace.end(pod, error(Reason.PREEMPTED, "stopped at step 3"))
    new = own_namespace.job("later", "train", other_than=old)
    (container,) = new["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "3"
    finish_from_training(own_namespace, "later")
    assert own_namespace.status("later")["stages"][2].get("attempts", 0) == 0


def test_a_training_whose_result_was_lost_is_found_by_prepare(
    own_namespace: Namespace, own_operator: Operator
) -> None:
    own_operator.start()
    training = training_of(own_namespace, "lost")
    (prepared,) = own_namespace.jobs_of("lost", "prepare")
    pod = own_namespace.pod(training)
    own_operator.stop()
    own_namespace.end(pod, outcome_of(pod))
    own_namespace.wait(lambda: has_ended(own_namespace, training))
    own_namespace.remove(pod)
    own_operator.start()
    again = own_namespace.job("lost", "prepare", other_than=prepared)
    trained = result("train", key=outcome_of(pod).encode()["key"])
    found = own_namespace.pod(again)
    own_namespace.end(found, outcome_of(found, trained=trained))
    own_namespace.finish("lost", "export")
    own_namespace.until("lost", "Complete")
    assert own_namespace.jobs_of("lost", "train") == []
    assert own_namespace.status("lost")["stages"][2]["cacheHit"] is True


def test_a_pod_that_outlives_its_job_keeps_the_next_training_from_beginning(runs: Namespace) -> None:
    training = training_of(runs, "behind")
    pod = runs.pod(training)
    runs.run(pod)
    where = runs.path("jobs", training["metadata"]["name"])
    runs.client.request("DELETE", where, {"propagationPolicy": "Background"})
    told = "a pod of an earlier Job is still there"
    runs.wait(lambda: runs.condition("behind", "Ready").get("message") == told)
    time.sleep(2)
    assert runs.jobs_of("behind", "train") == []
    runs.remove(pod)
    finish_from_training(runs, "behind")


def test_a_pod_that_nothing_controls_keeps_no_training_from_beginning(runs: Namespace) -> None:
    """Whoever makes it may let it stay for ever. One that is orphaned is stopped by the fence of the next."""
    training = training_of(runs, "orphaned")
    pod = runs.pod(training)
    runs.run(pod)
    where = runs.path("jobs", training["metadata"]["name"])
    runs.client.request("DELETE", where, {"propagationPolicy": "Orphan"})
    again = runs.job("orphaned", "train", other_than=training)
    assert uid(pod) in {uid(left) for left in runs.pods_of("orphaned")}
    assert uid(runs.pod(again)) != uid(pod)
    finish_from_training(runs, "orphaned")


def test_a_pod_that_is_evicted_is_told_at_once_and_once(runs: Namespace) -> None:
    training = training_of(runs, "evicted")
    pod = runs.pod(training)
    runs.run(pod)
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    evicted = time.monotonic()
    runs.client.request("POST", runs.path("pods", name) + "/eviction", eviction)
    runs.until("evicted", "Ready", "Preempted")
    assert time.monotonic() - evicted < SAID_WITHIN
    failure = runs.status("evicted")["failure"]
    assert failure["message"].startswith(f"the pod {name} was evicted or preempted: ")
    assert failure["hint"] == Reason.PREEMPTED.facts.hint
    runs.end(pod, error(Reason.PREEMPTED, "stopped at step 3"))
    runs.remove(pod)
    runs.until("evicted", "Ready", "Train")
    assert runs.told("evicted", "Preempted") == 1
    finish_from_training(runs, "evicted")
    assert [uid(job) for job in runs.jobs_of("evicted", "train")] == [uid(training)]


def test_a_node_that_does_not_answer_is_told_and_the_run_goes_on_once_it_does(
    own_namespace: Namespace, hasty_operator: Operator
) -> None:
    training = training_of(own_namespace, "node")
    pod = own_namespace.pod(training)
    own_namespace.run(pod, "node-7")
    where = own_namespace.path("pods", pod["metadata"]["name"])
    own_namespace.client.request("DELETE", where, {"gracePeriodSeconds": 1})
    own_namespace.until("node", "Ready", "NodeLost")
    failure = own_namespace.status("node")["failure"]
    assert failure["hint"] == Reason.NODE_LOST.facts.hint
    assert "node-7" in failure["message"]
    assert [uid(job) for job in own_namespace.jobs_of("node", "train")] == [uid(training)]
    own_namespace.end(pod, error(Reason.PREEMPTED, "stopped at step 3"))
    own_namespace.remove(pod)
    finish_from_training(own_namespace, "node", other_than=training)
    assert "failure" not in own_namespace.status("node")
    assert hasty_operator.metric("lorafinetune_gpu_seconds_total", use="held") > 0


def test_pods_that_a_policy_denies_are_told_and_made_once_it_does_not(
    own_namespace: Namespace, own_operator: Operator
) -> None:
    own_operator.start()
    deny_pods(own_namespace)
    try:
        own_namespace.apply("denied")
        job = own_namespace.job("denied", "download")
        own_namespace.until("denied", "Ready", "AdmissionDenied")
        failure = own_namespace.status("denied")["failure"]
        assert "no pods on Sundays" in failure["message"]
        assert failure["hint"] == Reason.ADMISSION_DENIED.facts.hint
        assert own_namespace.condition("denied", "Reconciling")["status"] == "True"
        assert own_namespace.told("denied", "AdmissionDenied") == 1
    finally:
        allow_pods(own_namespace)
    pod = own_namespace.wait(lambda: next(iter(own_namespace.pods_of("denied")), None), MENDED_WITHIN)
    assert pod is not None
    own_namespace.until("denied", "Ready", "Download")
    assert "failure" not in own_namespace.status("denied")
    own_namespace.finish_all("denied")
    assert uid(own_namespace.jobs_of("denied", "download")[0]) == uid(job)


def test_pod_security_takes_our_pods_and_its_refusal_of_others_would_be_told(
    own_namespace: Namespace, own_operator: Operator
) -> None:
    """It has nothing against our pods, so what it says of another's is said of ours, which have none yet."""
    own_operator.start()
    enforced = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    own_namespace.client.request("PATCH", f"/api/v1/namespaces/{own_namespace.name}", enforced, MERGE)
    training = training_of(own_namespace, "secure", QUEUED)
    own_namespace.until("secure", "Queued")
    refused = refusal_of_a_careless_job(own_namespace)
    about = {"kind": "Job", "name": training["metadata"]["name"], "uid": uid(training)}
    again = {**refused, "metadata": {"name": "again"}, "involvedObject": refused["involvedObject"] | about}
    own_namespace.client.request("POST", own_namespace.path("events"), again)
    own_namespace.until("secure", "Ready", "AdmissionDenied")
    told = own_namespace.status("secure")["failure"]["message"]
    assert told.startswith('violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false')
    admit(own_namespace, training)
    finish_from_training(own_namespace, "secure")


def refusal_of_a_careless_job(runs: Namespace) -> Object:
    """The Event that says why no pod is made for a Job which asks for nothing of what Pod Security wants."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i:1"}]}}
    careless = {"metadata": {"name": "careless"}, "spec": {"template": template}}
    runs.client.request("POST", runs.path("jobs"), careless)

    def refused() -> Object:
        events = (e for e in runs.items("events") if e["involvedObject"]["name"] == "careless")
        return next((event for event in events if event["reason"] == "FailedCreate"), {})

    return runs.wait(refused)


def deny_pods(runs: Namespace) -> None:
    """Makes a policy, and waits until it is obeyed."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "no pods on Sundays"}],
    }
    within = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": runs.name}}}
    binding = {"policyName": runs.name, "validationActions": ["Deny"], "matchResources": within}
    for plural, spec in (("policies", policy), ("policybindings", binding)):
        made = {"metadata": {"name": runs.name}, "spec": spec}
        runs.client.request("POST", f"{ADMISSION}/validatingadmission{plural}", made)
    runs.wait(lambda: is_denied(runs))


def allow_pods(runs: Namespace) -> None:
    for plural in ("policybindings", "policies"):
        runs.client.delete(f"{ADMISSION}/validatingadmission{plural}/{runs.name}")


def is_denied(runs: Namespace) -> bool:
    pod = {"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "main", "image": "i:1"}]}}
    try:
        runs.client.request("POST", f"{runs.path('pods')}?dryRun=All", pod)
    except ApiError:
        return True
    return False


def has_ended(runs: Namespace, job: Object) -> bool:
    status = runs.client.get(runs.path("jobs", job["metadata"]["name"])).get("status", {})
    return any(c["type"] == "Complete" and c["status"] == "True" for c in status.get("conditions", []))

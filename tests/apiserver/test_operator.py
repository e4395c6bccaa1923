"""The operator against a real API server with the real Job controller: a run's whole life."""

import time
from typing import Any

import pytest

from apiserver.kube import CRDS
from apiserver.operating import MERGE, Namespace, Operator, metric, outcome_of
from builders import error, result
from cluster.apiserver import ApiServer
from lorafinetune.api.crd import crd
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.jobs import Settings

PAUSE = Settings().first_retry_after.total_seconds()
SOON = 5.0
"""Seconds: for what takes some milliseconds, and would take a minute if the operator only polled."""
WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")


def test_a_run_goes_through_its_stages_to_complete(runs: Namespace) -> None:
    runs.apply("whole")
    runs.finish_all("whole")
    status = runs.status("whole")
    assert status["progress"] == "100%"
    assert [stage["state"] for stage in status["stages"]] == ["Complete"] * 4
    assert status["observedGeneration"] == 1
    assert runs.told("whole", "StageStarted", 4) == 4
    assert runs.told("whole", "StageComplete", 4) == 4
    assert runs.told("whole", "Complete") == 1


def test_a_life_is_counted_once(runs: Namespace, operator: Operator) -> None:
    def counted() -> list[float]:
        stages = (
            operator.metric("lorafinetune_stage_duration_seconds_count", stage=stage, cache_hit="false")
            for stage in STAGES
        )
        ended = operator.metric("lorafinetune_runs_ended_total", state="Complete", reason="Complete")
        return [ended, operator.metric("lorafinetune_queue_wait_seconds_count"), *stages]

    once_more = [count + 1 for count in counted()]
    runs.apply("counted")
    runs.finish_all("counted")
    runs.wait(lambda: counted() >= once_more)
    assert counted() == once_more
    assert operator.metric("lorafinetune_runs", state="Complete") >= 1
    assert operator.metric("lorafinetune_reconcile_errors_total", kind="bug") == 0


def test_a_jobs_ttl_comes_after_its_result(runs: Namespace) -> None:
    runs.apply("tidy", {"ttlSecondsAfterFinished": 0})
    runs.finish_all("tidy")
    runs.wait(lambda: not runs.jobs_of("tidy"))
    assert runs.condition("tidy", "Complete")["status"] == "True"


def test_a_failure_is_told_with_its_reason_and_hint(runs: Namespace) -> None:
    runs.apply("bad-rows")
    runs.finish("bad-rows", "download")
    runs.end(
        runs.pod(runs.job("bad-rows", "prepare")), error(Reason.DATASET_INVALID, "rows.json:7: is empty")
    )
    runs.until("bad-rows", "Failed", "DatasetInvalid")
    failure = runs.status("bad-rows")["failure"]
    assert failure["message"] == "rows.json:7: is empty"
    assert failure["hint"] == Reason.DATASET_INVALID.facts.hint
    assert runs.told("bad-rows", "DatasetInvalid") == 1


def test_a_store_that_stays_away_is_tried_again_after_a_pause_and_fails_after_max_retries(
    runs: Namespace,
) -> None:
    runs.apply("away", {"maxRetries": 1})
    first = runs.job("away", "download")
    runs.end(runs.pod(first), error(Reason.STORAGE_UNAVAILABLE, "http://s3:7070 does not answer"))
    failed = time.monotonic()
    runs.until("away", "Ready", "StorageUnavailable")
    assert runs.condition("away", "Reconciling")["status"] == "True"
    assert runs.status("away")["failure"]["hint"] == Reason.STORAGE_UNAVAILABLE.facts.hint
    assert runs.status("away")["stages"][0]["attempts"] == 1
    second = runs.job("away", "download", other_than=first)
    assert time.monotonic() - failed > PAUSE - 2, "whole seconds of two clocks"
    runs.end(runs.pod(second), error(Reason.STORAGE_UNAVAILABLE, "http://s3:7070 does not answer"))
    runs.until("away", "Failed", "StorageUnavailable")
    assert runs.status("away")["stages"][0]["attempts"] == 2
    assert [runs.told("away", reason) for reason in ("StageRetried", "StorageUnavailable")] == [1, 1]
    time.sleep(2)
    assert [job["metadata"]["uid"] for job in runs.jobs_of("away")] == [second["metadata"]["uid"]]


def test_a_suspended_run_is_told_when_its_pod_is_gone_and_goes_on_when_resumed(runs: Namespace) -> None:
    runs.apply("paused")
    pod = runs.pod(runs.job("paused", "download"))
    runs.run(pod)
    runs.edit("paused", {"suspend": True})
    runs.until("paused", "Ready", "Stopping")
    runs.wait(
        lambda: "deletionTimestamp" in runs.client.get(runs.path("pods", pod["metadata"]["name"]))["metadata"]
    )
    assert not runs.condition("paused", "Suspended")
    runs.remove(pod)
    runs.until("paused", "Suspended")
    assert not runs.jobs_of("paused")
    runs.edit("paused", {"suspend": False})
    runs.finish_all("paused")


def test_an_edit_trains_anew_once_the_old_training_is_gone(runs: Namespace) -> None:
    runs.apply("edited")
    runs.finish("edited", "download")
    prepared = runs.finish("edited", "prepare")
    old = runs.job("edited", "train")
    pod = runs.pod(old)
    runs.run(pod)
    runs.edit("edited", {"training": {"epochs": "4"}})
    runs.finish("edited", "prepare", other_than=prepared)
    runs.until("edited", "Ready", "Stopping")
    assert [job["metadata"]["uid"] for job in runs.jobs_of("edited", "train")] == [old["metadata"]["uid"]]
    runs.remove(pod)
    assert runs.finish("edited", "train")["metadata"]["name"] != old["metadata"]["name"]
    runs.finish("edited", "export")
    runs.until("edited", "Complete")
    assert runs.status("edited")["observedGeneration"] == 2
    assert len(runs.jobs_of("edited", "download")) == 1


def test_a_deleted_run_leaves_neither_jobs_nor_pods(runs: Namespace) -> None:
    runs.apply("dropped")
    runs.finish("dropped", "download")
    runs.pod(runs.job("dropped", "prepare"))
    runs.client.delete(runs.path("lorafinetunes", "dropped"))
    runs.wait(lambda: not runs.jobs_of("dropped") and not runs.pods_of("dropped"))


def test_two_runs_with_one_key_train_once(runs: Namespace) -> None:
    same = {"model": {"source": "hf://owner/shared"}}
    for name in ("first", "second"):
        runs.apply(name, same)
        runs.finish(name, "download")
    runs.finish("first", "prepare")
    training = runs.job("first", "train")
    runs.finish("second", "prepare")
    runs.until("second", "Ready", "WaitingForSameKey")
    prepared = runs.jobs_of("second", "prepare")
    runs.finish("first", "train")
    again = runs.job("second", "prepare", other_than=prepared[0])
    trained = result("train", key=outcome_of(runs.pod(training)).encode()["key"])
    runs.end(runs.pod(again), outcome_of(runs.pod(again), trained=trained))
    for name in ("first", "second"):
        runs.finish(name, "export")
        runs.until(name, "Complete")
    assert [job["metadata"]["uid"] for job in runs.jobs_of("second", "train")] == []
    assert runs.status("second")["stages"][2]["cacheHit"] is True


def test_nothing_is_written_while_nothing_changes(
    runs: Namespace, operator: Operator, served: ApiServer
) -> None:
    runs.apply("quiet")
    runs.pod(runs.job("quiet", "download"))
    runs.until("quiet", "Ready", "Download")

    def writes() -> float:
        text = served.request("GET", "/metrics").decode()
        return sum(
            metric(text, "apiserver_request_total", verb=verb, resource=resource)
            for verb in WRITES
            for resource in ("lorafinetunes", "jobs", "pods", "events")
        )

    time.sleep(2.5)
    before = writes()
    looked = operator.metric("lorafinetune_reconcile_latency_seconds_count")
    served_before = runs.get("quiet")["metadata"]["resourceVersion"]
    touch(runs, "quiet")
    runs.wait(lambda: operator.metric("lorafinetune_reconcile_latency_seconds_count") > looked)
    time.sleep(1.5)
    assert writes() == before + 1, "the touch alone"
    assert served_before != runs.get("quiet")["metadata"]["resourceVersion"]


def test_a_new_run_begins_long_before_a_look_would_come_by_itself(runs: Namespace) -> None:
    """How fast it is on a free machine is measured in tests/bench/operator."""
    began = time.monotonic()
    runs.apply("quick")
    runs.job("quick", "download")
    assert time.monotonic() - began < SOON


def test_a_spec_is_carried_by_a_job_up_to_the_limit_and_refused_above(runs: Namespace) -> None:
    dataset = {"source": "s3://raw/rows.json", "connection": "store", "system": "x" * 8000}
    runs.apply("long", {"datasets": [dataset] * 9})
    runs.job("long", "download")
    runs.apply("too-long", {"datasets": [dataset] * 10})
    runs.until("too-long", "Ready", "ConfigInvalid")
    assert runs.status("too-long")["failure"]["message"].endswith("bytes long; 75 KiB are the limit")
    assert not runs.jobs_of("too-long")


def test_a_job_that_is_not_ours_keeps_its_name(runs: Namespace) -> None:
    runs.apply("wanted")
    wanted = runs.job("wanted", "download")["metadata"]["name"]
    runs.edit("wanted", {"suspend": True})
    runs.until("wanted", "Suspended")
    container = {"name": "main", "image": "example.com/other:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    foreign = {"metadata": {"name": wanted}, "spec": {"suspend": True, "template": template}}
    runs.client.request("POST", runs.path("jobs"), foreign)
    runs.edit("wanted", {"suspend": False})
    runs.until("wanted", "Ready", "NameTaken")
    there = runs.client.get(runs.path("jobs", wanted))
    assert there["spec"]["template"]["spec"]["containers"][0]["image"] == container["image"]


@pytest.mark.parametrize(
    ("name", "hard"),
    [("no-jobs", {"count/jobs.batch": "0"}), ("no-pods", {"count/pods": "0"})],
    ids=["of Jobs, in the answer to a creation", "of Pods, in a Warning event"],
)
def test_a_quota_is_told(
    own_namespace: Namespace, own_operator: Operator, name: str, hard: dict[str, str]
) -> None:
    own_operator.start()
    quota: dict[str, Any] = {"metadata": {"name": name}, "spec": {"hard": hard}}
    own_namespace.client.request("POST", own_namespace.path("resourcequotas"), quota)
    status = {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}
    where = own_namespace.path("resourcequotas", name) + "/status"
    own_namespace.client.request("PATCH", where, status, MERGE)
    own_namespace.apply("poor")
    own_namespace.until("poor", "Ready", "QuotaExceeded")
    assert name in own_namespace.status("poor")["failure"]["message"]


def test_a_resource_of_another_version_waits_and_goes_on_once_it_fits(
    runs: Namespace, operator: Operator
) -> None:
    definition = f"{CRDS}/{crd()['metadata']['name']}"
    newer = crd()["spec"]
    schema = newer["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["novelty"] = {"type": "string"}
    watches = watches_of(operator)
    runs.client.request("PATCH", definition, {"spec": newer}, MERGE)
    try:
        runs.wait(lambda: "novelty" in runs.apply("newer", {"novelty": "x"}, dry=True)["spec"])
        runs.wait(lambda: watches_of(operator) > watches)
        runs.apply("newer", {"novelty": "x"})
        runs.until("newer", "Ready", "ConfigInvalid")
        assert runs.status("newer")["failure"]["message"].startswith("spec.novelty")
        assert not runs.jobs_of("newer")
        assert runs.told("newer", "ConfigInvalid") == 1
        runs.edit("newer", {"novelty": None})
        runs.until("newer", "Ready", "Download")
        assert "failure" not in runs.status("newer")
        runs.apply("patient", {"novelty": "x"})
        runs.until("patient", "Ready", "ConfigInvalid")
    finally:
        runs.client.request("PATCH", definition, {"spec": crd()["spec"]}, MERGE)
    runs.until("patient", "Ready", "Download")
    assert "failure" not in runs.status("patient")


def test_a_definition_that_lacks_fields_costs_their_values_and_no_writes(
    runs: Namespace, operator: Operator
) -> None:
    """As when the chart is upgraded without its definition."""
    definition = f"{CRDS}/{crd()['metadata']['name']}"
    older = crd()["spec"]
    fields = older["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    lacking = {name: fields.pop(name) for name in ("artifacts", "dataset", "progress")}
    watches = watches_of(operator)
    runs.client.request("PATCH", definition, {"spec": {"versions": older["versions"]}}, MERGE)
    try:
        runs.wait(lambda: watches_of(operator) > watches)
        runs.apply("older")
        runs.finish_all("older")
        assert not lacking.keys() & runs.status("older").keys()
        time.sleep(1.5)
        before, written = runs.get("older")["metadata"]["resourceVersion"], writes_of(operator)
        touch(runs, "older")
        runs.wait(lambda: runs.get("older")["metadata"]["resourceVersion"] != before)
        time.sleep(1.5)
        assert writes_of(operator) - written <= 1
    finally:
        runs.client.request("PATCH", definition, {"spec": crd()["spec"]}, MERGE)


def writes_of(operator: Operator) -> float:
    return operator.metric("lorafinetune_api_calls_total", verb="update", resource="lorafinetunes/status")


def watches_of(operator: Operator) -> float:
    """How often it has begun to watch the resources: the API server ends the watches of an old definition."""
    return operator.metric("lorafinetune_api_calls_total", verb="watch", resource="lorafinetunes")


def touch(runs: Namespace, name: str) -> None:
    """A change that means nothing."""
    note = {"metadata": {"annotations": {"lorafinetune.dev/touched": str(time.monotonic())}}}
    runs.client.request("PATCH", runs.path("lorafinetunes", name), note, MERGE)

"""A LoRAFineTune on a real cluster, from `kubectl apply` to the merged model, whatever happens between."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import document
from e2e.installation import NAMESPACE, Installation, until
from e2e.tenant import Store, Tenant
from local.runs import Desk
from lorafinetune.contract.arguments import STAGES

pytestmark = pytest.mark.e2e

LONG: dict[str, Any] = {"training": {"maxSteps": 1500, "checkpoint": {"every": 50}, "evaluation": None}}
"""Long enough to be disturbed: about a minute."""


def digests(status: dict[str, Any]) -> list[str]:
    return [status["artifacts"][name]["digest"] for name in ("adapter", "merged")]


def test_a_resource_becomes_what_the_same_file_becomes_on_a_laptop(
    tenant: Tenant, store: Store, tmp_path: Path
) -> None:
    tenant.apply()
    status = tenant.wait("Complete")
    assert [(s["name"], s["state"], s["cacheHit"]) for s in status["stages"]] == [
        (stage, "Complete", False) for stage in STAGES
    ]
    assert digests(status) == digests(on_a_laptop(store, tmp_path, tenant.store.spec("laptop")))

    told = [reason for reason, _ in tenant.events()]
    assert told == [*["StageStarted", "StageComplete"] * 4, "Complete"]
    assert tenant.is_quiet(10)
    columns = tenant.kubectl("get", "lft").split()
    assert columns[:6] == ["NAME", "STAGE", "PROGRESS", "LOSS", "ETA", "AGE"]
    assert columns[6:9] == ["tune", "Complete", "100%"]


def on_a_laptop(store: Store, folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """The status of the same run by the command, with as many threads as a pod sees."""
    desk = Desk(folder)
    desk.put_secret("s3", store.endpoint.access_key, store.endpoint.secret_key)
    spec = spec | {"connections": [spec["connections"][0] | {"endpoint": store.endpoint.endpoint}]}
    (folder / "tune.yaml").write_text(yaml.safe_dump({**document(), "spec": spec}))
    ended, out = desk.finish("--s3", "--secrets", "secrets", OMP_NUM_THREADS=str(os.cpu_count()))
    assert ended == 0, out
    return desk.status()


def test_the_same_file_on_an_emptied_cluster_is_complete_without_a_training_pod(tenant: Tenant) -> None:
    tenant.apply()
    first = tenant.wait("Complete")
    tenant.kubectl("delete", "lorafinetune", "tune", "--cascade=foreground")
    until(lambda: not tenant.pods(), 60)
    assert tenant.store.keys(f"{tenant.namespace}/exports/")

    tenant.apply()
    again = tenant.wait("Complete")
    assert digests(again) == digests(first)
    assert [s["cacheHit"] for s in again["stages"]] == [True] * 4
    assert tenant.jobs("train") == []


def test_a_training_whose_pod_is_deleted_goes_on_from_its_checkpoint(tenant: Tenant) -> None:
    tenant.apply(changes=LONG)
    step = tenant.wait_for_checkpoint()
    pod = tenant.running_pod("train")
    tenant.kubectl("delete", "pod", pod, "--wait=false")
    assert tenant.running_pod("train") != pod or until(lambda: tenant.running_pod("train") != pod, 120)
    status = tenant.wait("Complete")
    assert status["training"]["step"] == 1500
    assert status["resumes"] == 1
    assert step < 1500


def test_an_evicted_training_goes_on_and_no_attempt_is_counted(tenant: Tenant) -> None:
    tenant.apply(changes=LONG)
    tenant.wait_for_checkpoint()
    pod = tenant.running_pod("train")
    client = tenant.installation.cluster.client
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    client.request("POST", f"/api/v1/namespaces/{tenant.namespace}/pods/{pod}/eviction", eviction)
    status = tenant.wait("Complete")
    train = next(s for s in status["stages"] if s["name"] == "train")
    assert (train["attempts"], status["resumes"]) == (0, 1)


def test_a_suspended_training_leaves_and_a_resumed_one_goes_on(tenant: Tenant) -> None:
    tenant.apply(changes=LONG)
    tenant.wait_for_checkpoint()
    tenant.edit("tune", {"suspend": True})
    status = tenant.wait("Suspended", within=60)
    assert tenant.pods("train") == []
    stopped_at = status["checkpoint"]["step"]
    tenant.edit("tune", {"suspend": False})
    status = tenant.wait("Complete")
    assert (status["resumes"], stopped_at < 1500) == (1, True)


def test_an_operator_that_is_killed_is_not_missed(tenant: Tenant, installation: Installation) -> None:
    tenant.apply(changes=LONG)
    tenant.wait_for_checkpoint()
    pod, operator = tenant.running_pod("train"), installation.operator_pod()
    installation.kubectl("delete", "pod", operator, f"--namespace={NAMESPACE}", "--grace-period=0", "--force")
    status = tenant.wait("Complete")
    assert tenant.pods("train")[0]["metadata"]["name"] == pod
    assert (status.get("resumes", 0), len(tenant.jobs("train"))) == (0, 1)
    told = [reason for reason, _ in tenant.events()]
    assert told == [*["StageStarted", "StageComplete"] * 4, "Complete"]


def test_an_edit_of_the_export_runs_the_export_alone(tenant: Tenant) -> None:
    tenant.apply()
    before = tenant.wait("Complete")
    tenant.edit("tune", {"export": {"merged": {"maxShardSize": "1GB"}}})
    until(lambda: tenant.status()["observedGeneration"] == 2, 30)
    after = tenant.wait("Complete")
    assert after["artifacts"]["adapter"] == before["artifacts"]["adapter"]
    assert after["artifacts"]["merged"] != before["artifacts"]["merged"]
    told = [message for reason, message in tenant.events() if reason == "StageStarted"]
    assert [message.split()[0] for message in told] == [*STAGES, "export"]


def test_an_edit_of_the_learning_rate_stops_the_old_training_first(tenant: Tenant) -> None:
    tenant.apply(changes=LONG)
    tenant.wait_for_checkpoint()
    old = tenant.jobs("train")[0]["metadata"]["name"]
    tenant.edit("tune", {"training": {"learningRate": "5e-4", "maxSteps": 10}})
    status = tenant.wait("Complete")
    assert [job["metadata"]["name"] for job in tenant.jobs("train")] != [old]
    assert status["training"]["totalSteps"] == 10


def test_two_resources_with_one_key_train_once(tenant: Tenant) -> None:
    tenant.apply("first", changes=LONG)
    tenant.apply("second", changes=LONG)
    statuses = [tenant.wait("Complete", name) for name in ("first", "second")]
    assert digests(statuses[0]) == digests(statuses[1])
    jobs = [job for name in ("first", "second") for job in tenant.jobs("train", name)]
    assert len(jobs) == 1


def test_deleting_takes_jobs_and_pods_and_leaves_the_artefacts(tenant: Tenant) -> None:
    tenant.apply(changes=LONG)
    tenant.wait_for_checkpoint()
    tenant.kubectl("delete", "lorafinetune", "tune")
    until(lambda: not tenant.jobs() and not tenant.pods(), 150)
    assert tenant.store.keys(f"{tenant.namespace}/prepared/")


def test_jobs_go_after_their_time_to_live_and_the_resource_stays(tenant: Tenant) -> None:
    tenant.apply(changes={"ttlSecondsAfterFinished": 1})
    tenant.wait("Complete")
    until(lambda: not tenant.jobs(), 60)
    assert tenant.status()["stage"] == "Complete"


def test_a_running_stage_shows_how_far_it_is(tenant: Tenant) -> None:
    tenant.apply(changes=LONG)
    seen = until(lambda: _training(tenant), 240)
    assert 0 < seen["training"]["step"] < 1500
    assert seen["training"]["totalSteps"] == 1500
    assert seen["progress"].endswith("%")
    assert float(seen["loss"]) > 0


def _training(tenant: Tenant) -> dict[str, Any]:
    status = tenant.status()
    return status if status.get("training", {}).get("step") and status.get("loss") else {}

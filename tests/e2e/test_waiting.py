"""What a person must mend on the cluster: said within seconds, and the run goes on by itself afterwards."""

from collections.abc import Callable
from typing import Any

import pytest

from e2e.installation import until
from e2e.tenant import Tenant

pytestmark = pytest.mark.e2e

SAID_WITHIN = 15.0
"""Ten seconds are promised; the rest is kubectl's and this machine's."""

Mend = Callable[[Tenant], object]


def goes_on(tenant: Tenant, within: float) -> None:
    """The download is done, which takes but a moment, and the failure is gone."""

    def downloaded() -> bool:
        stages = {s["name"]: s["state"] for s in tenant.status().get("stages", [])}
        return stages.get("download") == "Complete"

    until(downloaded, within)
    assert tenant.status().get("failure", {}).get("stage") != "download"


def test_a_secret_that_is_missing(newcomer: Tenant) -> None:
    newcomer.apply()
    failure = newcomer.wait_for_reason("SecretMissing", within=SAID_WITHIN)
    assert 'secret "s3" not found' in failure["message"]
    newcomer.give_secret()
    goes_on(newcomer, 90)


def test_a_key_that_is_missing_in_the_secret(newcomer: Tenant) -> None:
    newcomer.apply_object(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": {"x": "why"}}
    )
    newcomer.apply()
    failure = newcomer.wait_for_reason("SecretMissing", within=SAID_WITHIN)
    assert "AWS_ACCESS_KEY_ID" in failure["message"]
    newcomer.give_secret()
    goes_on(newcomer, 90)


def test_a_wrong_secret(newcomer: Tenant) -> None:
    newcomer.give_secret(AWS_SECRET_ACCESS_KEY="wrong")
    newcomer.apply()
    failure = newcomer.wait_for_reason("CredentialsInvalid", within=60)
    assert failure["stage"] == "download"
    newcomer.give_secret()
    goes_on(newcomer, 120)


def test_a_service_account_that_is_missing(tenant: Tenant) -> None:
    tenant.apply(changes={"scheduling": {"serviceAccountName": "tuner"}})
    failure = tenant.wait_for_reason("AdmissionDenied", within=SAID_WITHIN)
    assert failure["message"] == "the ServiceAccount tuner does not exist"
    tenant.kubectl("create", "serviceaccount", "tuner")
    goes_on(tenant, 120)


def test_a_quota_that_is_used_up(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "none", "--hard=pods=0")
    tenant.apply()
    failure = tenant.wait_for_reason("QuotaExceeded", within=SAID_WITHIN)
    assert "exceeded quota: none" in failure["message"]
    tenant.kubectl("delete", "quota", "none")
    goes_on(tenant, 120)


def test_a_quota_on_jobs(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0")
    tenant.apply()
    failure = tenant.wait_for_reason("QuotaExceeded", within=SAID_WITHIN)
    assert "exceeded quota: none" in failure["message"]
    tenant.kubectl("delete", "quota", "none")
    goes_on(tenant, 90)


def test_a_limit_range_that_allows_less(tenant: Tenant) -> None:
    limit = {"type": "Container", "max": {"cpu": "1m"}, "default": {"cpu": "1m"}}
    tenant.apply_object(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tight"}, "spec": {"limits": [limit]}}
    )
    tenant.apply(changes={"resources": {"download": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}})
    failure = tenant.wait_for_reason("AdmissionDenied", within=SAID_WITHIN)
    assert "maximum cpu usage per Container is 1m" in failure["message"]
    tenant.kubectl("delete", "limitrange", "tight")
    goes_on(tenant, 120)


def test_a_node_selector_that_no_node_has_is_said_only_when_it_matters(tenant: Tenant) -> None:
    tenant.apply(
        changes={"resources": {"download": {"requests": {"cpu": "9000"}, "limits": {"cpu": "9000"}}}}
    )
    failure = tenant.wait_for_reason("Unschedulable", within=SAID_WITHIN)
    assert "Insufficient cpu" in failure["message"]
    tenant.edit("tune", {"resources": {"download": {"requests": None, "limits": None}}})
    goes_on(tenant, 60)


def test_a_stage_that_uses_more_memory_than_it_may(tenant: Tenant) -> None:
    little = {"requests": {"memory": "40Mi"}, "limits": {"memory": "40Mi"}}
    tenant.apply(changes={"resources": {"download": little}})
    failure = tenant.wait_for_reason("HostOutOfMemory", within=60)
    assert failure["stage"] == "download"
    tenant.edit("tune", {"resources": {"download": {"requests": None, "limits": None}}})
    goes_on(tenant, 60)


def test_a_deadline_that_nobody_can_keep(tenant: Tenant) -> None:
    tenant.apply(changes={"activeDeadlineSeconds": 1})
    failure = tenant.wait_for_reason("DeadlineExceeded", within=60)
    assert failure["stage"] == "download"
    tenant.edit("tune", {"activeDeadlineSeconds": 3600})
    goes_on(tenant, 60)


def test_a_name_that_a_stranger_has(tenant: Tenant) -> None:
    tenant.apply(changes={"suspend": True})
    tenant.wait("Suspended")
    tenant.edit("tune", {"suspend": False})
    name = until(lambda: next(iter(tenant.jobs("download")), {}), 30)["metadata"]["name"]
    tenant.kubectl("delete", "lorafinetune", "tune", "--cascade=foreground")
    tenant.apply_object(stranger(name))
    tenant.apply()
    failure = tenant.wait_for_reason("NameTaken", within=SAID_WITHIN)
    assert name in failure["message"]
    tenant.kubectl("delete", "job", name)
    goes_on(tenant, 90)


def stranger(name: str) -> dict[str, Any]:
    """A Job that has nothing to do with us, and runs nothing."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.com/none"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def test_bad_input_is_refused_by_kubectl_with_the_fields_path(tenant: Tenant) -> None:
    with pytest.raises(Exception, match=r"spec\.training\.lora\.rank.*should be greater than or equal to 1"):
        tenant.apply(changes={"training": {"lora": {"rank": 0}}})


def test_what_the_schema_cannot_see_is_a_condition_before_any_job(tenant: Tenant) -> None:
    tenant.apply(changes={"training": {"extraArgs": {"output_dir": "/"}}})
    failure = tenant.wait_for_reason("ConfigInvalid", within=SAID_WITHIN)
    assert failure["message"].startswith("spec.training.extraArgs.output_dir: is not allowed")
    assert tenant.jobs() == []
    tenant.edit("tune", {"training": {"extraArgs": {"output_dir": None}}})
    goes_on(tenant, 60)

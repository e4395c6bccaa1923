"""What a person must mend on the cluster: said within seconds, and the run goes on by itself afterwards."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from cluster.storage import NAMESPACE, PORT
from e2e.canaries import canary, leaks, overheard
from e2e.hub import give_token, hub_of, open_hub
from e2e.installation import Installation, until
from e2e.telling import LOG, told
from e2e.tenant import Store, Tenant

pytestmark = pytest.mark.e2e

AT_ONCE = 4
"""Most of the time of a story is waiting, so a few tenants live theirs at the same time."""
TOLD_WITHIN = 10.0
"""As is promised, since the cluster says so."""
SAID_WITHIN = TOLD_WITHIN + 5.0
"""Since a person applied it: the rest is kubectl's, and what the cluster needs to notice."""
MENDED_WITHIN = 60.0 + 5.0

Story = Callable[[Tenant], None]


def a_secret_that_is_missing(tenant: Tenant) -> None:
    tenant.apply()
    failure = tenant.wait_for_reason("SecretMissing", within=SAID_WITHIN)
    assert 'secret "s3" not found' in failure["message"]
    tenant.give_secret()
    tenant.goes_on(within=MENDED_WITHIN)


def a_key_that_is_missing_in_the_secret(tenant: Tenant) -> None:
    tenant.apply_object(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": {"x": "why"}}
    )
    tenant.apply()
    failure = tenant.wait_for_reason("SecretMissing", within=SAID_WITHIN)
    assert "AWS_ACCESS_KEY_ID" in failure["message"]
    tenant.give_secret()
    tenant.goes_on(within=MENDED_WITHIN)


def a_wrong_secret(tenant: Tenant) -> None:
    wrong = canary()
    tenant.give_secret(AWS_SECRET_ACCESS_KEY=wrong)
    fails_without_telling(tenant, wrong)
    tenant.give_secret()
    tenant.goes_on(within=120)


def a_wrong_token(tenant: Tenant) -> None:
    right, wrong = canary(), canary()
    give_token(tenant, right)
    open_hub(tenant)
    give_token(tenant, wrong)
    fails_without_telling(tenant, wrong, hub_of(tenant))
    give_token(tenant, right)
    tenant.goes_on(within=120)


def fails_without_telling(tenant: Tenant, wrong: str, changes: Mapping[str, Any] | None = None) -> None:
    """Its download is refused for what is wrong, and nobody is told what that is, nor any other secret."""
    with overheard() as arguments:
        tenant.apply(changes=changes)
        failure = tenant.wait_for_reason("CredentialsInvalid", within=60)
    said = told(tenant, arguments)
    assert failure["stage"] == "download"
    assert leaks(said, wrong, tenant.store.endpoint.secret_key) == []
    assert len([where for where in said if where.startswith(LOG)]) > 1


def a_store_that_is_away(tenant: Tenant) -> None:
    """Nobody serves what its address names, and then the real store does."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "away"}}
    tenant.apply_object(service | {"spec": {"ports": [{"port": PORT}]}})
    away = {"name": "store", "endpoint": f"http://away.{tenant.namespace}.svc:{PORT}"}
    tenant.apply(changes={"connections": [away | {"secretRef": {"name": "s3"}}]})
    failure = tenant.wait_for_reason("StorageUnavailable", within=180)
    assert away["endpoint"] in failure["message"]
    pods = tenant.installation.get("pods", f"--namespace={NAMESPACE}")["items"]
    addresses = [{"ip": pod["status"]["podIP"]} for pod in pods]
    subsets = [{"addresses": addresses, "ports": [{"port": PORT}]}]
    tenant.apply_object(
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "away"}, "subsets": subsets}
    )
    tenant.goes_on(within=180)
    assert tenant.status()["stages"][0]["attempts"] >= 1


def a_service_account_that_is_missing(tenant: Tenant) -> None:
    tenant.apply(changes={"scheduling": {"serviceAccountName": "tuner"}})
    failure = tenant.wait_for_reason("AdmissionDenied", within=SAID_WITHIN)
    assert failure["message"] == "the ServiceAccount tuner does not exist"
    tenant.kubectl("create", "serviceaccount", "tuner")
    tenant.goes_on(within=120)


def a_quota_that_is_used_up(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "none", "--hard=pods=0")
    tenant.apply()
    failure = tenant.wait_for_reason("QuotaExceeded", within=SAID_WITHIN)
    assert "exceeded quota: none" in failure["message"]
    tenant.kubectl("delete", "quota", "none")
    tenant.goes_on(within=120)


def a_quota_on_jobs(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0")
    tenant.apply()
    failure = tenant.wait_for_reason("QuotaExceeded", within=SAID_WITHIN)
    assert "exceeded quota: none" in failure["message"]
    tenant.kubectl("delete", "quota", "none")
    tenant.goes_on(within=MENDED_WITHIN)


def a_limit_range_that_allows_less(tenant: Tenant) -> None:
    limit = {"type": "Container", "max": {"cpu": "1m"}, "default": {"cpu": "1m"}}
    tenant.apply_object(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tight"}, "spec": {"limits": [limit]}}
    )
    tenant.apply(changes={"resources": {"download": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}})
    failure = tenant.wait_for_reason("AdmissionDenied", within=SAID_WITHIN)
    assert "maximum cpu usage per Container is 1m" in failure["message"]
    tenant.kubectl("delete", "limitrange", "tight")
    tenant.goes_on(within=120)


def more_than_any_node_has(tenant: Tenant) -> None:
    tenant.apply(
        changes={"resources": {"download": {"requests": {"cpu": "9000"}, "limits": {"cpu": "9000"}}}}
    )
    failure = tenant.wait_for_reason("Unschedulable", within=SAID_WITHIN)
    assert "Insufficient cpu" in failure["message"]
    tenant.edit("tune", {"resources": {"download": {"requests": None, "limits": None}}})
    tenant.goes_on(within=60)


def a_stage_that_uses_more_memory_than_it_may(tenant: Tenant) -> None:
    little = {"requests": {"memory": "40Mi"}, "limits": {"memory": "40Mi"}}
    tenant.apply(changes={"resources": {"download": little}})
    until(lambda: "OOMKilled" in str(tenant.pods("download")), 60)
    failure = tenant.wait_for_reason("HostOutOfMemory", within=TOLD_WITHIN)
    assert failure["stage"] == "download"
    tenant.edit("tune", {"resources": {"download": {"requests": None, "limits": None}}})
    tenant.goes_on(within=60)


def a_limit_of_disk_that_is_too_low(tenant: Tenant) -> None:
    """The kubelet measures once a minute, and evicts. The training may leave a checkpoint before it goes."""
    training = {"maxSteps": 20_000, "checkpoint": {"every": 100}, "evaluation": None}
    disk = "ephemeral-storage"
    tenant.apply(changes={"training": training, "resources": {"train": {"limits": {disk: "100Ki"}}}})
    until(lambda: "exceeds the total limit" in str(tenant.pods("train")), 300)
    failure = tenant.wait_for_reason("DiskFull", within=60)
    assert failure["stage"] == "train"
    tenant.edit("tune", {"resources": {"train": {"limits": {disk: "1Gi"}}}})
    tenant.running_pod("train")
    until(lambda: "failure" not in tenant.status(), 60)


def a_node_whose_gpu_does_not_work(tenant: Tenant) -> None:
    """It offers one, and there is none."""
    tenant.give_nodes("example.com/gpu")
    tenant.apply(changes={"resources": {"train": {"gpu": {"count": 1, "resourceName": "example.com/gpu"}}}})
    failure = tenant.wait_for_reason("GpuUnavailable", within=180)
    assert failure["stage"] == "train"
    (container,) = tenant.jobs("train")[0]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["example.com/gpu"] == "1"
    tenant.edit("tune", {"resources": {"train": {"gpu": {"count": 0, "resourceName": None}}}})
    tenant.wait("Complete")


def a_deadline_that_nobody_can_keep(tenant: Tenant) -> None:
    tenant.apply(changes={"activeDeadlineSeconds": 1})
    until(lambda: "DeadlineExceeded" in str(tenant.jobs("download")), 60)
    failure = tenant.wait_for_reason("DeadlineExceeded", within=TOLD_WITHIN)
    assert failure["stage"] == "download"
    tenant.edit("tune", {"activeDeadlineSeconds": 3600})
    tenant.goes_on(within=60)


def a_name_that_a_stranger_has(tenant: Tenant) -> None:
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
    tenant.goes_on(within=MENDED_WITHIN)


def stranger(name: str) -> dict[str, Any]:
    """A Job that has nothing to do with us, and runs nothing."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.com/none"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


def what_the_schema_cannot_see(tenant: Tenant) -> None:
    tenant.apply(changes={"training": {"extraArgs": {"output_dir": "/"}}})
    failure = tenant.wait_for_reason("ConfigInvalid", within=SAID_WITHIN)
    assert failure["message"].startswith("spec.training.extraArgs.output_dir: is not allowed")
    assert tenant.jobs() == []
    tenant.edit("tune", {"training": {"extraArgs": {"output_dir": None}}})
    tenant.goes_on(within=60)


NEWCOMERS: dict[str, Story] = {
    "a Secret that is missing": a_secret_that_is_missing,
    "a key that is missing in the Secret": a_key_that_is_missing_in_the_secret,
    "a wrong Secret": a_wrong_secret,
}
"""Stories of tenants who have no Secret yet."""
STORIES: dict[str, Story] = {
    "a limit of disk that is too low": a_limit_of_disk_that_is_too_low,
    "a node whose GPU does not work": a_node_whose_gpu_does_not_work,
    **NEWCOMERS,
    "a wrong token": a_wrong_token,
    "a name that a stranger has": a_name_that_a_stranger_has,
    "a store that is away": a_store_that_is_away,
    "a quota on Jobs": a_quota_on_jobs,
    "a quota that is used up": a_quota_that_is_used_up,
    "a ServiceAccount that is missing": a_service_account_that_is_missing,
    "a LimitRange that allows less": a_limit_range_that_allows_less,
    "a request that no node can meet": more_than_any_node_has,
    "a stage that uses more memory than it may": a_stage_that_uses_more_memory_than_it_may,
    "a deadline that nobody can keep": a_deadline_that_nobody_can_keep,
    "what the schema can't see is a condition before any Job": what_the_schema_cannot_see,
}


@pytest.fixture(scope="module")
def lived(installation: Installation, store: Store) -> Iterator[Mapping[str, Future[None]]]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {sentence: pool.submit(live, sentence, installation, store) for sentence in STORIES}


def live(sentence: str, installation: Installation, store: Store) -> None:
    tenant = Tenant(installation, store)
    try:
        if sentence not in NEWCOMERS:
            tenant.give_secret()
        STORIES[sentence](tenant)
    finally:
        tenant.leave()


@pytest.mark.parametrize("sentence", STORIES)
def test_it_is_said_and_goes_on_once_it_is_mended(lived: Mapping[str, Future[None]], sentence: str) -> None:
    lived[sentence].result()


def test_kubectl_explains_every_field(installation: Installation) -> None:
    explained = installation.kubectl("explain", "lorafinetune", "--recursive")
    assert all(f"{field}\t<" in explained for field in ("learningRate", "dropIntroLine", "gpuSeconds"))
    assert "Rank of the adapter's matrices." in installation.kubectl(
        "explain", "lorafinetune.spec.training.lora.rank"
    )


def test_bad_input_is_refused_by_kubectl_with_the_fields_path(tenant: Tenant) -> None:
    with pytest.raises(Exception, match=r"spec\.training\.lora\.rank.*should be greater than or equal to 1"):
        tenant.apply(changes={"training": {"lora": {"rank": 0}}})

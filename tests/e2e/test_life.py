"""The life of one LoRAFineTune on a real cluster: each test goes on where the last one ended."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import document
from e2e.canaries import canary, leaks, overheard
from e2e.hub import NAME as HUB
from e2e.hub import dataset_of_hub, give_token, hub_of, open_hub
from e2e.installation import Installation, until
from e2e.telling import LOG, PROCESSES, told
from e2e.tenant import Store, Tenant
from hubs.private import PrivateHub
from local.runs import Desk
from lorafinetune.contract.arguments import STAGES

pytestmark = pytest.mark.e2e

TOKEN = canary()
"""The hub's."""
TOLD: list[str] = [*["StageStarted", "StageComplete"] * 4, "Complete"]


def digests(status: dict[str, Any]) -> list[str]:
    return [status["artifacts"][name]["digest"] for name in ("adapter", "merged")]


@pytest.fixture(scope="module")
def laptop(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[dict[str, Any]]]:
    """What the run becomes there, which goes on beside that on the cluster."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(on_a_laptop, store, tmp_path_factory.mktemp("laptop"), store.spec("laptop"))


@pytest.fixture(scope="module")
def arguments() -> Iterator[set[bytes]]:
    """What processes are started with meanwhile."""
    with overheard() as heard:
        yield heard


@pytest.fixture(scope="module")
def tenant(
    installation: Installation, store: Store, laptop: Future[dict[str, Any]], arguments: set[bytes]
) -> Iterator[Tenant]:
    """A tenant whose resource is complete. Its rows are a hub's."""
    made = Tenant(installation, store)
    made.give_secret()
    give_token(made, TOKEN)
    open_hub(made)
    made.apply(changes=hub_of(made))
    made.wait("Complete")
    yield made
    made.leave()


def test_it_is_complete_and_told_step_by_step(tenant: Tenant) -> None:
    status = tenant.status()
    assert [(s["name"], s["state"], s["cacheHit"]) for s in status["stages"]] == [
        (stage, "Complete", False) for stage in STAGES
    ]
    until(lambda: "Complete" in reasons(tenant), 10)  # told once it is written
    assert reasons(tenant) == TOLD
    columns = tenant.kubectl("get", "lft").split()
    assert columns[:7] == ["NAME", "STAGE", "PROGRESS", "LOSS", "ETA", "AGE", "REASON"]
    assert columns[7:10] == ["tune", "Complete", "100%"]
    merged = status["artifacts"]["merged"]["uri"].removeprefix(f"s3://{tenant.store.bucket}/")
    assert f"{merged}/manifest.json" in tenant.store.keys(merged)


def reasons(tenant: Tenant) -> list[str]:
    """Of its Events."""
    return [reason for reason, _ in tenant.events()]


def test_no_secret_stands_anywhere_but_in_its_secret(tenant: Tenant, arguments: set[bytes]) -> None:
    """Neither the store's nor the hub's: not in what the API server tells, what anybody logged, what the
    operator measures, what lies in the store, or what a process was started with."""
    key = tenant.store.endpoint.secret_key
    said = told(tenant, arguments)
    assert leaks(said, key, TOKEN) == []
    assert len([where for where in said if where.startswith(LOG)]) > len(STAGES)
    if tenant.installation.cluster.is_ours:
        assert all(f"lorafinetune_stages\0{stage}".encode() in said[PROCESSES] for stage in STAGES)
    kept = tenant.kubectl("get", "secrets", "--output=yaml").encode()
    assert leaks({"key": kept}, key) + leaks({"token": kept}, TOKEN) == ["key", "token"]


def test_nothing_is_written_once_nothing_happens(tenant: Tenant) -> None:
    assert tenant.is_quiet(10)


def test_it_is_what_the_same_file_becomes_on_a_laptop(tenant: Tenant, laptop: Future[dict[str, Any]]) -> None:
    assert digests(tenant.status()) == digests(laptop.result())


def on_a_laptop(store: Store, folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """The status of the same run by the command, with one thread, as the pods have."""
    desk = Desk(folder)
    desk.put_secret("s3", store.endpoint.access_key, store.endpoint.secret_key)
    desk.put_keys(HUB, token=TOKEN)
    spec = spec | {"connections": [spec["connections"][0] | {"endpoint": store.endpoint.endpoint}]}
    (rows,) = store.contents("rows.jsonl").values()
    with PrivateHub(rows, TOKEN) as hub:
        spec = spec | dataset_of_hub(spec, hub.url)
        (folder / "tune.yaml").write_text(yaml.safe_dump({**document(), "spec": spec}))
        ended, out = desk.finish("--s3", "--secrets", "secrets")
    assert ended == 0, out
    return desk.status()


def test_an_edit_of_the_export_runs_the_export_alone(tenant: Tenant) -> None:
    before = tenant.status()
    tenant.edit("tune", {"export": {"merged": {"maxShardSize": "1GB"}}})
    until(lambda: tenant.status()["observedGeneration"] == 2, 30)
    after = tenant.wait("Complete")
    assert after["artifacts"]["adapter"] == before["artifacts"]["adapter"]
    assert after["artifacts"]["merged"]["uri"] != before["artifacts"]["merged"]["uri"]
    started = [message.split()[0] for reason, message in tenant.events() if reason == "StageStarted"]
    assert started == [*STAGES, "export"]


def test_jobs_go_after_their_time_to_live_and_the_resource_stays(tenant: Tenant) -> None:
    tenant.edit("tune", {"ttlSecondsAfterFinished": 1})
    until(lambda: not tenant.jobs(), 60)
    assert tenant.status()["stage"] == "Complete"
    assert tenant.is_quiet(5)


def test_on_a_cluster_that_was_emptied_a_new_one_finds_the_artefacts_without_a_training(
    tenant: Tenant,
) -> None:
    before = digests(tenant.status())
    tenant.kubectl("delete", "lorafinetune", "tune")
    assert tenant.store.keys(f"{tenant.namespace}/exports/")
    tenant.installation.uninstall()
    tenant.installation.install()
    tenant.apply("again", hub_of(tenant))
    again = tenant.wait("Complete", "again")
    assert digests(again) == before
    assert [s["cacheHit"] for s in again["stages"]] == [True] * 4
    assert tenant.jobs("train", "again") == []

"""What the Pods of a Job said is read before it is taken for lost: no watch waits for another."""

import asyncio
from typing import Any, cast

import pytest

from lorafinetune.shell import pod_refresher
from lorafinetune.shell.client import Client
from lorafinetune.shell.index import Index
from lorafinetune.shell.pod_refresher import PodRefresher
from unit.shell_objects import job, pod


class Server:
    """Has Pods, and counts how often they are read."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self._pods = list(pods)
        self.read: list[tuple[str, str]] = []

    async def items(self, where: str, **selector: str) -> list[dict[str, Any]]:
        self.read.append((where, selector["labelSelector"]))
        return self._pods


def refresh(refresher: PodRefresher, *jobs: str) -> list[bool]:
    async def each() -> list[bool]:
        return [await refresher.refresh("team-a", name) for name in jobs]

    return asyncio.run(each())


def test_the_pods_of_a_job_are_read_once() -> None:
    index, server = Index(), Server(pod())
    index.jobs.put(job())
    refresher = PodRefresher(cast(Client, server), index)
    assert refresh(refresher, "job", "job") == [True, False]
    assert server.read == [("/api/v1/namespaces/team-a/pods", "batch.kubernetes.io/job-name=job")]
    assert len(index.pods.group("team-a", "job")) == 1


def test_another_job_of_the_name_is_read_anew() -> None:
    index, server = Index(), Server()
    index.jobs.put(job())
    refresher = PodRefresher(cast(Client, server), index)
    refresh(refresher, "job")
    index.jobs.put(job(version=2, metadata={"uid": "uid-other"}))
    assert refresh(refresher, "job", "gone") == [True, False]


def test_no_more_is_remembered_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_refresher, "REMEMBERED", 1)
    index = Index()
    for name in ("one", "two"):
        index.jobs.put(job(name))
    refresher = PodRefresher(cast(Client, Server()), index)
    assert refresh(refresher, "one", "two", "two", "one") == [True, True, False, True]

"""What happens in the cluster → which resource is reconciled, and what is found to be gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from builders import merged
from lorafinetune.contract.outcome import Progress
from lorafinetune.shell import audit, handlers
from lorafinetune.shell.client import Client
from lorafinetune.shell.handlers import EventHandler
from lorafinetune.shell.index import Index, Key
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.liveness import WatchLiveness
from lorafinetune.shell.paths import INDEXED, Call
from lorafinetune.shell.progress import LEAST_SECONDS, ProgressMemory
from lorafinetune.shell.projections import Object
from unit.shell_objects import job, pod, stored
from unit.test_shell_queue import Clock

TUNE, OTHER = ("team-a", "tune"), ("team-a", "other")
EARLIER = [pod()["metadata"]["ownerReferences"][0] | {"uid": "uid-of-the-one-before"}]
ENDED: dict[str, Any] = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}


class World:
    """An EventHandler with all that it knows. woken: whom, and after how many seconds."""

    def __init__(self) -> None:
        self.index, self.interest = Index(), Interest()
        self.progress = ProgressMemory(Clock())
        self.woken: list[tuple[Key, float]] = []
        self.handler = EventHandler(
            self.index, self.interest, self.progress, lambda k, after: self.woken.append((k, after))
        )

    def after(self, happens: Callable[[EventHandler], None]) -> set[Key]:
        """Who is woken by what happens."""
        self.woken.clear()
        happens(self.handler)
        return {key for key, _ in self.woken}


WAKES: dict[str, tuple[Callable[[EventHandler], None], set[Key]]] = {
    "the resource changes": (lambda w: w.handle("lorafinetunes", "MODIFIED", stored(version=9)), set()),
    "the resource is edited": (
        lambda w: w.handle("lorafinetunes", "MODIFIED", stored(version=9, spec={"suspend": True})),
        {TUNE},
    ),
    "the resource is gone": (lambda w: w.handle("lorafinetunes", "DELETED", stored(version=9)), {TUNE}),
    "its Job ends": (lambda w: w.handle("jobs", "MODIFIED", job(version=9, **ENDED)), {TUNE, OTHER}),
    "its Job is shown again": (lambda w: w.handle("jobs", "MODIFIED", job(version=9)), set()),
    "its Job is gone": (lambda w: w.handle("jobs", "DELETED", job(version=9)), {TUNE, OTHER}),
    "a Pod of its Job changes": (lambda w: w.handle("pods", "ADDED", pod()), {TUNE, OTHER}),
    "a Pod of a Job that is gone changes": (lambda w: w.handle("pods", "ADDED", pod(of="gone")), {TUNE}),
    "a Job of nobody's changes": (
        lambda w: w.handle("jobs", "ADDED", job("x", metadata={"ownerReferences": None})),
        set(),
    ),
    "a warning is heard of its Job": (lambda w: w.enqueue_for(("team-a", "job")), {TUNE, OTHER}),
}


@pytest.mark.parametrize("sentence", WAKES)
def test_those_whom_it_concerns_are_woken_when(sentence: str) -> None:
    world = World()
    world.handler.handle("lorafinetunes", None, stored())
    world.handler.handle("jobs", None, job())
    world.interest.set(OTHER, frozenset({"job"}))
    happens, woken = WAKES[sentence]
    assert world.after(happens) == woken


def ended(version: int) -> dict[str, Any]:
    return pod(version=version, status={"phase": "Failed"})


def test_what_a_pod_said_at_its_end_is_kept_until_its_job_is_gone() -> None:
    world = World()
    world.handler.handle("jobs", "ADDED", job())
    world.handler.handle("pods", "ADDED", pod(status={"phase": "Running"}))
    world.handler.handle("pods", "DELETED", ended(version=3))
    kept = world.index.pods.group("team-a", "job")
    assert [one["status"]["phase"] for one in kept] == ["Failed"]
    world.handler.handle("jobs", "DELETED", job(version=4))
    assert world.index.pods.group("team-a", "job") == []


FORGOTTEN: dict[str, dict[str, Any]] = {
    "has no Job": pod(of="gone"),
    "was of an earlier Job of the name": pod(metadata={"ownerReferences": EARLIER}),
    "did not end": pod(status={"phase": "Running"}),
    "nothing controls": pod(metadata={"ownerReferences": None}),
}


@pytest.mark.parametrize("sentence", FORGOTTEN)
def test_a_pod_is_forgotten_at_once_that(sentence: str) -> None:
    world, given = World(), FORGOTTEN[sentence]
    world.handler.handle("jobs", "ADDED", job())
    world.handler.handle("pods", "ADDED", given)
    world.handler.handle("pods", "DELETED", merged(given, {"metadata": {"resourceVersion": "3"}}))
    assert len(world.index.pods) == 0
    assert not world.index.pods._foreign


def test_of_the_last_words_of_many_pods_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MOST_FINAL_PODS", 2)
    world = World()
    world.handler.handle("jobs", "ADDED", job())
    for name in ("one", "two", "three"):
        world.handler.handle("pods", "ADDED", pod(name))
        world.handler.handle("pods", "DELETED", pod(name, version=2))
    kept = world.index.pods.group("team-a", "job")
    assert [one["metadata"]["name"] for one in kept] == ["two", "three"]


def test_progress_wakes_when_it_may_be_shown_and_ends_with_the_job() -> None:
    world = World()
    world.handler.handle("jobs", None, job())
    tell = Progress(stage="train", done=1)
    world.after(lambda w: w.handle_progress("team-a", "job", tell))
    assert world.woken == [(TUNE, 0)]
    world.progress.shown(("team-a", "job"))
    world.after(lambda w: w.handle_progress("team-a", "job", tell.model_copy(update={"done": 2})))
    assert world.woken == [(TUNE, LEAST_SECONDS)]
    world.handler.handle("jobs", "MODIFIED", job(version=2, **ENDED))
    assert world.progress.ages() == {}


def test_no_progress_is_kept_of_a_job_that_is_not_there() -> None:
    world = World()
    assert (
        world.after(lambda w: w.handle_progress("team-a", "gone", Progress(stage="train", done=1))) == set()
    )
    assert world.progress.ages() == {}


class Lists:
    """What the API server lists: no watch can be made to miss a deletion at will."""

    def __init__(self, **uids: list[str]) -> None:
        self.uids = uids
        self.asked: list[str] = []

    async def metadata(self, plural: str, *_: object) -> AsyncIterator[Object]:
        self.asked.append(plural)
        for uid in self.uids.get(plural, ()):
            yield {"uid": uid, "resourceVersion": "1"}


def opened() -> WatchLiveness:
    """Every watch is open."""
    liveness = WatchLiveness((None,), Clock())
    for plural in INDEXED:
        liveness.record(Call("watch", plural), 200)
    return liveness


def test_the_start_lists_once_and_waits_until_all_of_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAUSE", 0)
    index, lists = Index(), Lists(jobs=["uid-one", "uid-two"])

    async def start() -> None:
        waiting = asyncio.create_task(until_complete(lists, index))
        for name in ("one", "two"):
            await asyncio.sleep(0.01)
            assert not waiting.done()
            index.jobs.put(job(name))
        await asyncio.wait_for(waiting, 1)

    asyncio.run(start())
    assert lists.asked == list(INDEXED)


def test_the_start_does_not_wait_for_what_was_deleted_before_it_was_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "PAUSE", 0.001)
    monkeypatch.setattr(audit, "LISTED_AGAIN_AFTER", 0.002)
    lists = Lists(pods=["uid-gone"])

    async def start() -> None:
        waiting = asyncio.create_task(until_complete(lists, Index()))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        lists.uids.clear()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(start())


async def until_complete(lists: Lists, index: Index) -> None:
    await audit.until_complete(cast(Client, lists), index, opened(), (None,))


def test_what_was_deleted_while_a_watch_was_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SOON", 0)
    world = World()
    world.handler.handle("lorafinetunes", None, stored())
    world.handler.handle("jobs", None, job("gone"))
    world.handler.handle("jobs", None, job("there"))

    async def look() -> None:
        lists: Any = Lists(lorafinetunes=["uid-tune"], jobs=["uid-there"])
        auditor = audit.Auditor(
            cast(Client, lists), world.index, (None,), world.handler.handle_deletion, world.handler.handle
        )
        auditor.request()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(auditor.run(), 0.05)

    world.woken.clear()
    asyncio.run(look())
    assert list(world.index.jobs.uids()) == ["uid-there"]
    assert (TUNE, 0) in world.woken
    assert len(world.index.resources) == 1

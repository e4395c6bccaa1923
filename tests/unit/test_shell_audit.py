"""What no watch has told is found by comparing the index with a list, and is read anew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from lorafinetune.shell import audit
from lorafinetune.shell.client import Client
from lorafinetune.shell.index import Key
from lorafinetune.shell.paths import path
from lorafinetune.shell.projections import Object
from unit.shell_objects import job
from unit.test_shell_handlers import TUNE, World

Given = dict[str, Any]


class Server:
    """Lists the Jobs that there are, and counts what is read. meanwhile: happens after the list."""

    def __init__(self, jobs: list[Given], meanwhile: Callable[[], None], gone: bool) -> None:
        self._jobs = {f"metadata.name={one['metadata']['name']}": one for one in jobs}
        self._meanwhile = meanwhile
        self._gone = gone
        self.read: list[str] = []

    async def metadata(self, plural: str, *_: object) -> AsyncIterator[Object]:
        if plural == "jobs":
            for one in self._jobs.values():
                yield one["metadata"]
            self._meanwhile()

    async def items(self, where: str, fieldSelector: str) -> list[Given]:  # noqa: N803 - the API's own name
        assert where == path("jobs", "team-a")
        self.read.append(fieldSelector)
        return [] if self._gone else [self._jobs[fieldSelector]]


def look(world: World, server: Server) -> set[Key]:
    """Who is woken by one comparison."""

    async def once() -> None:
        auditor = audit.Auditor(
            cast(Client, server), world.index, (None,), world.handler.handle_deletion, world.handler.handle
        )
        auditor.request()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(auditor.run(), 0.05)

    return world.after(lambda _: asyncio.run(once()))


ENDED: Given = {"status": {"succeeded": 1}}
FOREIGN: Given = {"metadata": {"ownerReferences": None}}

TABLE: dict[str, tuple[list[Given], list[Given], bool, int, set[Key]]] = {
    "nothing is read where each version is known": ([job(version=3)], [job(version=3)], False, 0, set()),
    "a change that was missed is taken in": (
        [job(version=3)],
        [job(version=4, **ENDED)],
        False,
        1,
        {TUNE},
    ),
    "an object that was never shown is taken in": ([], [job(version=4)], False, 1, {TUNE}),
    "what is none of ours is read once": (
        [job(version=3, **FOREIGN)],
        [job(version=4, **FOREIGN)],
        False,
        0,
        set(),
    ),
    "what is gone by then is left": ([job(version=3)], [job(version=4)], True, 1, set()),
}
"""What was shown, what there is, whether it goes; how often it is read, and who is woken."""


@pytest.mark.parametrize("sentence", TABLE)
def test_an_audit(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SOON", 0)
    shown, there, gone, reads, woken = TABLE[sentence]
    world = World()
    for one in shown:
        world.handler.handle("jobs", None, one)
    server = Server(there, lambda: None, gone)
    assert look(world, server) == woken
    assert len(server.read) == reads


def test_an_audit_reads_nothing_that_a_watch_tells_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SOON", 0)
    world = World()
    server = Server([job(version=4)], lambda: world.handler.handle("jobs", "ADDED", job(version=4)), False)
    look(world, server)
    assert server.read == []

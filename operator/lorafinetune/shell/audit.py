"""Compares the index with what the API server lists, by metadata alone.

At the start this tells when the index is complete: with a half-filled one, the plan would make Jobs that
exist already. Later it finds what a watch did not report: what was deleted while the watch was broken, and
events that got lost.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.index import Index, Table, key_of
from lorafinetune.shell.liveness import WatchLiveness
from lorafinetune.shell.paths import INDEXED, path
from lorafinetune.shell.projections import Object

log = logging.getLogger(__name__)

PAUSE: Final = 0.1
SOON: Final = 2.0
LISTED_AGAIN_AFTER: Final = 30.0
EVERY: Final = 600.0
"""Seconds."""


async def until_complete(
    client: Client, index: Index, liveness: WatchLiveness, namespaces: Iterable[str | None]
) -> None:
    """Waits until each watch is open and has shown what there was before."""
    for namespace in namespaces:
        for plural in INDEXED:
            await _until_whole(client, index, liveness, plural, namespace)


class Auditor:
    """Looks for what is gone and for what was missed, now and then, and soon after a watch had to begin anew
    with a list.

    deleted: is called with the kind and the object. changed: is called with the kind, None, and the newest of
    the object.
    """

    def __init__(
        self,
        client: Client,
        index: Index,
        namespaces: Iterable[str | None],
        deleted: Callable[[str, Object], None],
        changed: Callable[[str, str | None, Object], None],
    ) -> None:
        self._client = client
        self._index = index
        self._namespaces = tuple(namespaces)
        self._deleted = deleted
        self._changed = changed
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Look soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            with suppress(TimeoutError):
                pause = EVERY * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load
                await asyncio.wait_for(self._wanted.wait(), pause)
            await asyncio.sleep(SOON)
            self._wanted.clear()
            try:
                await self._compare_all()
            except ApiError as problem:
                log.warning("can't look for what is gone: %s", problem)
                self._wanted.set()

    async def _compare_all(self) -> None:
        for namespace in self._namespaces:
            for plural in INDEXED:
                await self._compare(plural, namespace)

    async def _compare(self, plural: str, namespace: str | None) -> None:
        table = self._index.tables[plural]
        held = {uid: key for uid, key in table.uids().items() if namespace in (None, key[0])}
        missed = []
        async for metadata in self._client.metadata(plural, namespace, INDEXED[plural]):
            held.pop(str(metadata["uid"]), None)
            if table.misses(metadata):
                missed.append(metadata)
        for uid in held:
            if (lost := table.of_uid(uid)) is not None:
                self._deleted(plural, lost)
        for metadata in missed:
            await self._catch_up(plural, metadata)

    async def _catch_up(self, plural: str, metadata: Object) -> None:
        """Reads an object, unless the watch has told of it meanwhile."""
        if not self._index.tables[plural].misses(metadata):
            return
        namespace, name = key_of({"metadata": metadata})
        where = path(plural, namespace)
        for newest in await self._client.items(where, fieldSelector=f"metadata.name={name}"):
            self._changed(plural, None, newest)


async def _until_whole(
    client: Client, index: Index, liveness: WatchLiveness, plural: str, namespace: str | None
) -> None:
    """Lists once; what was deleted since may never be shown, so a long wait ends with another list."""
    while True:
        while not liveness.is_open(plural, namespace):
            await asyncio.sleep(PAUSE)
        try:
            listed = client.metadata(plural, namespace, INDEXED[plural])
            uids = {str(metadata["uid"]) async for metadata in listed}
        except ApiError as problem:
            log.warning("can't list %s: %s", plural, problem)
            await asyncio.sleep(SOON)
            continue
        if not (missing := await _not_seen(uids, index.tables[plural])):
            return
        log.info("waiting for %d %s", len(missing), plural)


async def _not_seen(uids: set[str], table: Table) -> set[str]:
    """Which of the objects no watch has shown by the time that they should be listed again."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LISTED_AGAIN_AFTER
    while (uids := {uid for uid in uids if not table.was_seen(uid)}) and loop.time() < deadline:
        await asyncio.sleep(PAUSE)
    return uids

"""The operator as a whole: what there is, who knows whom, and what runs side by side."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from lorafinetune.api import codec
from lorafinetune.core.jobs import Settings
from lorafinetune.core.pods import has_ended
from lorafinetune.shell import receiver, status, watching
from lorafinetune.shell.audit import Auditor, until_complete
from lorafinetune.shell.authority import Authority
from lorafinetune.shell.client import Client
from lorafinetune.shell.connection import UNLIMITED, connect
from lorafinetune.shell.handover import Handover
from lorafinetune.shell.hearing import LastWords
from lorafinetune.shell.holding import Holding
from lorafinetune.shell.index import Index, Key, key_of
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.looking import Known, Looker
from lorafinetune.shell.metrics import Metrics, Runs
from lorafinetune.shell.paths import Call
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.pulse import Pulse
from lorafinetune.shell.queue import WorkQueue
from lorafinetune.shell.refusals import Refusals
from lorafinetune.shell.settings import ProgressSettings, ShellSettings
from lorafinetune.shell.starting import Starting
from lorafinetune.shell.trimming import Object
from lorafinetune.shell.waking import Waking
from lorafinetune.shell.warnings import Warnings, listen
from lorafinetune.shell.working import work
from lorafinetune.shell.writing import Writer

log = logging.getLogger(__name__)

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path


class Operator:
    """Everything that lives as long as the process."""

    def __init__(
        self, given: ShellSettings, environment: Mapping[str, str], watching_began: Callable[[], None]
    ) -> None:
        """Needs a running event loop. Raises NoClusterError, and OSError where certificates are missing.

        watching_began: is called when kopf has taken the signals of the process.
        """
        clock = asyncio.get_running_loop().time
        self._given = given
        self._watching_began = watching_began
        self._namespaces: tuple[str | None, ...] = given.namespaces or (None,)
        self._connection = connect(environment)
        self._authority = _authority(given.progress)
        self._metrics = Metrics()
        self._pulse = Pulse(self._namespaces, clock)
        self._health = status.Health(self._pulse)
        self._queue: WorkQueue[Key] = WorkQueue(clock)
        index, interest, progress = Index(), Interest(), ProgressMemory(clock)
        self._waking = Waking(index, interest, progress, self._queue.add)
        warnings = Warnings(index, clock, self._waking.job)
        self._known = Known(
            index, warnings, progress, Refusals(clock), interest, self._settings, lambda: datetime.now(UTC)
        )
        self._holding = Holding(index, datetime.now(UTC), self._metrics.held)
        self._auditor: Auditor | None = None
        self._starting = Starting(datetime.now(UTC), self._metrics.waited)
        self._metrics.registry.register(Runs(index, self._queue.depth, progress, self._pulse))

    async def run(self) -> None:
        """Runs until it is cancelled, or a part of it fails."""
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._connection.session(self._notice))
            client = Client(session, self._connection.server)
            watches = Client(self._watching_session(stack), self._connection.server)
            server = await status.serve(self._given.status_address, self._health, self._metrics.registry)
            stack.push_async_callback(server.cleanup)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(stack))
                await asyncio.to_thread(codec.prepare)
                await until_complete(client, self._known.index, self._pulse, self._namespaces)
                log.info("watching %d resources", len(self._known.index.resources))
                self._health.complete = True
                self._begin(client, watches, tasks)

    def _begin(self, client: Client, watches: Client, tasks: asyncio.TaskGroup) -> None:
        """Starts what needs a complete index."""
        known = self._known
        self._auditor = Auditor(client, known.index, self._namespaces, self._waking.gone, self._waking.seen)
        tasks.create_task(self._auditor.run())
        for namespace in self._namespaces:
            tasks.create_task(listen(watches, namespace, known.warnings))
        if self._given.progress:
            tasks.create_task(self._receive(client, self._given.progress))
        writer = Writer(client, known.index, known.refusals)
        looker = Looker(
            known, writer, self._metrics.changed, LastWords(client, known.index), Handover(client)
        )
        tasks.create_task(work(self._queue, looker.look, self._metrics))

    async def _watch(self, stack: AsyncExitStack) -> None:
        """kopf logs in anew when it is refused; every session is closed with the stack."""
        await watching.watch(
            self._seen,
            lambda: self._watching_session(stack),
            self._connection.server,
            self._given.namespaces,
            self._watching_began,
        )

    def _watching_session(self, stack: AsyncExitStack) -> aiohttp.ClientSession:
        made = self._connection.session(self._notice, UNLIMITED)
        stack.push_async_callback(made.close)
        return made

    def _seen(self, plural: str, kind: str | None, given: Object) -> None:
        self._waking.seen(plural, kind, given)
        if plural == "pods":
            self._holding.seen(given)
        if plural == "jobs":
            self._starting.seen(given)
        if kind is None and self._auditor:
            self._auditor.request()

    async def _receive(self, client: Client, given: ProgressSettings) -> None:
        path = urlsplit(given.url).path or "/"
        where = receiver.Settings(given.address.host, given.address.port, given.tls_directory, path)
        await receiver.serve(
            where,
            lambda uid: live_pod(self._known.index, uid),
            self._waking.progress,
            self._metrics.refused,
            client.get,
            lambda review: client.create(TOKEN_REVIEWS, review),
        )

    def _settings(self) -> Settings:
        told = self._authority.receiver() if self._authority else None
        return Settings(
            self._given.images, https=self._given.https, receiver=told, log_format=self._given.log_format
        )

    def _notice(self, call: Call, code: int) -> None:
        self._metrics.called(call, code)
        self._pulse.notice(call, code)


def live_pod(index: Index, uid: str) -> receiver.LivePod | None:
    """The Pod of that uid, if a Job of ours that is there made it."""
    pod = index.pods.of_uid(uid)
    job = pod and index.job_of(pod)
    if not pod or not job:
        return None
    namespace, name = key_of(pod)
    return receiver.LivePod(namespace, name, uid, job["metadata"]["name"], has_ended(pod))


def _authority(given: ProgressSettings | None) -> Authority | None:
    return Authority(given.url, given.tls_directory) if given else None

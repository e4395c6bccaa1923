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
from lorafinetune.shell import receiver, status, watcher
from lorafinetune.shell.audit import Auditor, until_complete
from lorafinetune.shell.authority import Authority
from lorafinetune.shell.client import Client
from lorafinetune.shell.connection import UNLIMITED, connect
from lorafinetune.shell.gpu_time import GpuTimeCounter
from lorafinetune.shell.handlers import EventHandler
from lorafinetune.shell.handover import Handover
from lorafinetune.shell.index import Index, Key, key_of
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.liveness import WatchLiveness
from lorafinetune.shell.metrics import Metrics, Runs
from lorafinetune.shell.paths import Call
from lorafinetune.shell.pod_refresher import PodRefresher
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.projections import Object
from lorafinetune.shell.queue import WorkQueue
from lorafinetune.shell.queue_time import QueueTimeCounter
from lorafinetune.shell.reconciler import Observations, Reconciler
from lorafinetune.shell.refusals import RefusedJobs
from lorafinetune.shell.settings import ProgressSettings, ShellSettings
from lorafinetune.shell.warnings import Warnings, listen
from lorafinetune.shell.workers import work
from lorafinetune.shell.writer import Writer

log = logging.getLogger(__name__)

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path


class Operator:
    """Everything that lives as long as the process."""

    def __init__(
        self, settings: ShellSettings, environment: Mapping[str, str], watching_began: Callable[[], None]
    ) -> None:
        """Needs a running event loop. Raises NoClusterError, and OSError where certificates are missing.

        watching_began: is called when kopf has taken the signals of the process.
        """
        clock = asyncio.get_running_loop().time
        self._shell_settings = settings
        self._watching_began = watching_began
        self._namespaces: tuple[str | None, ...] = settings.namespaces or (None,)
        self._connection = connect(environment)
        self._authority = _authority(settings.progress)
        self._metrics = Metrics()
        self._liveness = WatchLiveness(self._namespaces, clock)
        self._health = status.Health(self._liveness)
        self._queue: WorkQueue[Key] = WorkQueue(clock)
        index, interest, progress = Index(), Interest(), ProgressMemory(clock)
        self._event_handler = EventHandler(index, interest, progress, self._queue.add)
        warnings = Warnings(index, clock, self._event_handler.enqueue_for)
        self._observations = Observations(
            index, warnings, progress, RefusedJobs(clock), interest, self._settings, lambda: datetime.now(UTC)
        )
        self._gpu_time = GpuTimeCounter(index, datetime.now(UTC), self._metrics.record_held_gpus)
        self._auditor: Auditor | None = None
        self._queue_time = QueueTimeCounter(datetime.now(UTC), self._metrics.record_wait)
        self._metrics.registry.register(Runs(index, self._queue.depth, progress, self._liveness))

    async def run(self) -> None:
        """Runs until it is cancelled, or a part of it fails."""
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._connection.session(self._record))
            client = Client(session, self._connection.server)
            watches = Client(self._watching_session(stack), self._connection.server)
            server = await status.serve(
                self._shell_settings.status_address, self._health, self._metrics.registry
            )
            stack.push_async_callback(server.cleanup)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(stack))
                await asyncio.to_thread(codec.prepare)
                await until_complete(client, self._observations.index, self._liveness, self._namespaces)
                log.info("watching %d resources", len(self._observations.index.resources))
                self._health.complete = True
                self._begin(client, watches, tasks)

    def _begin(self, client: Client, watches: Client, tasks: asyncio.TaskGroup) -> None:
        """Starts what needs a complete index."""
        observations = self._observations
        self._auditor = Auditor(
            client,
            observations.index,
            self._namespaces,
            self._event_handler.handle_deletion,
            self._event_handler.handle,
        )
        tasks.create_task(self._auditor.run())
        for namespace in self._namespaces:
            tasks.create_task(listen(watches, namespace, observations.warnings))
        if self._shell_settings.progress:
            tasks.create_task(self._receive(client, self._shell_settings.progress))
        writer = Writer(client, observations.index, observations.refusals)
        reconciler = Reconciler(
            observations,
            writer,
            self._metrics.record_status,
            PodRefresher(client, observations.index),
            Handover(client),
        )
        tasks.create_task(work(self._queue, reconciler.reconcile, self._metrics))

    async def _watch(self, stack: AsyncExitStack) -> None:
        """kopf logs in anew when it is refused; every session is closed with the stack."""
        await watcher.watch(
            self._handle,
            lambda: self._watching_session(stack),
            self._connection.server,
            self._shell_settings.namespaces,
            self._watching_began,
        )

    def _watching_session(self, stack: AsyncExitStack) -> aiohttp.ClientSession:
        made = self._connection.session(self._record, UNLIMITED)
        stack.push_async_callback(made.close)
        return made

    def _handle(self, plural: str, event_type: str | None, obj: Object) -> None:
        self._event_handler.handle(plural, event_type, obj)
        if plural == "pods":
            self._gpu_time.observe(obj)
        if plural == "jobs":
            self._queue_time.observe(obj)
        if event_type is None and self._auditor:
            self._auditor.request()

    async def _receive(self, client: Client, settings: ProgressSettings) -> None:
        path = urlsplit(settings.url).path or "/"
        where = receiver.ReceiverSettings(
            settings.address.host, settings.address.port, settings.tls_directory, path
        )
        await receiver.serve(
            where,
            lambda uid: live_pod(self._observations.index, uid),
            self._event_handler.handle_progress,
            self._metrics.record_refusal,
            client.get,
            lambda review: client.create(TOKEN_REVIEWS, review),
        )

    def _settings(self) -> Settings:
        told = self._authority.receiver() if self._authority else None
        return Settings(
            self._shell_settings.images,
            https=self._shell_settings.https,
            receiver=told,
            log_format=self._shell_settings.log_format,
        )

    def _record(self, call: Call, code: int) -> None:
        self._metrics.record_call(call, code)
        self._liveness.record(call, code)


def live_pod(index: Index, uid: str) -> receiver.LivePod | None:
    """The Pod of that uid, if a Job of ours that is there made it."""
    pod = index.pods.of_uid(uid)
    job = pod and index.job_of(pod)
    if not pod or not job:
        return None
    namespace, name = key_of(pod)
    return receiver.LivePod(namespace, name, uid, job["metadata"]["name"], has_ended(pod))


def _authority(settings: ProgressSettings | None) -> Authority | None:
    return Authority(settings.url, settings.tls_directory) if settings else None

"""Reads the Pods of a Job that ended without a message, before its result is taken for lost.

Each kind has a watch of its own, and that of Pods may be behind that of Jobs. What the Pods say once their
Job has ended is final, so it is read once.
"""

from collections import OrderedDict
from typing import Final

from lorafinetune.core.pods import JOB_LABEL
from lorafinetune.shell.client import Client
from lorafinetune.shell.index import Index
from lorafinetune.shell.paths import path

REMEMBERED: Final = 10_000


class PodRefresher:
    """Puts into the index what it reads."""

    def __init__(self, client: Client, index: Index) -> None:
        self._client = client
        self._index = index
        self._refreshed: OrderedDict[str, None] = OrderedDict()

    async def refresh(self, namespace: str, job: str) -> bool:
        """Whether it had to read the Pods of a Job. Raises ApiError."""
        found = self._index.jobs.get(namespace, job)
        if found is None or found["metadata"]["uid"] in self._refreshed:
            return False
        for pod in await self._client.items(path("pods", namespace), labelSelector=f"{JOB_LABEL}={job}"):
            self._index.pods.put(pod)
        self._refreshed[found["metadata"]["uid"]] = None
        if len(self._refreshed) > REMEMBERED:
            self._refreshed.popitem(last=False)
        return True

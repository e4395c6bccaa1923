"""How long trainings wait in their queue, counted when their Jobs start: at the end of a training, the number
would come too late for whoever waits.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from lorafinetune.contract.times import moment
from lorafinetune.core.observed import STAGE_LABEL
from lorafinetune.shell.projections import Object
from lorafinetune.shell.projections import job as trimmed_job

REMEMBERED: Final = 10_000


class QueueTimeCounter:
    """Counts each Job once. since: what started earlier was another process's to count. count: is called with
    the seconds from its creation to its start."""

    def __init__(self, since: datetime, count: Callable[[float], None]) -> None:
        self._since = since
        self._count = count
        self._counted: OrderedDict[str, None] = OrderedDict()

    def observe(self, obj: Object) -> None:
        """Takes in a Job as a watch shows it."""
        job = trimmed_job(obj)
        if job is None or job["metadata"]["labels"].get(STAGE_LABEL) != "train":
            return
        uid, created = job["metadata"]["uid"], moment(job["metadata"].get("creationTimestamp"))
        started = moment(job["status"].get("startTime"))
        if uid in self._counted or not created or not started or started < self._since:
            return
        self._counted[uid] = None
        if len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)
        self._count((started - created).total_seconds())

"""The GPU time of trainings, counted when their Pods end.

A training that fails or is stopped holds its GPUs like any other, but leaves no result that says for how
long.
"""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from lorafinetune.contract.times import moment
from lorafinetune.core.observed import NAME_LABEL, STAGE_LABEL
from lorafinetune.core.pods import controller_of, has_ended, terminated
from lorafinetune.shell.index import Index, key_of
from lorafinetune.shell.projections import Object
from lorafinetune.shell.projections import pod as trimmed_pod

REMEMBERED: Final = 10_000


class GpuTimeCounter:
    """Counts each Pod once. since: a Pod that ended earlier was counted by the process before this one.
    count: is called with the seconds, times GPUs."""

    def __init__(self, index: Index, since: datetime, count: Callable[[float], None]) -> None:
        self._index = index
        self._since = since
        self._count = count
        self._counted: OrderedDict[str, None] = OrderedDict()

    def observe(self, obj: Object) -> None:
        """Takes in a Pod as a watch shows it."""
        pod = trimmed_pod(obj) if has_ended(obj) else None
        if pod is None or pod["metadata"]["uid"] in self._counted:
            return
        gpus, seconds = self._gpus(pod), self._seconds(pod)
        if not gpus or not seconds:
            return
        self._counted[pod["metadata"]["uid"]] = None
        if len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)
        self._count(gpus * seconds)

    def _gpus(self, pod: Object) -> int:
        """Of a training whose Job was seen; by the spec as it is now."""
        labels = pod["metadata"]["labels"]
        run = self._index.resources.get(key_of(pod)[0], labels.get(NAME_LABEL, ""))
        is_seen = self._index.jobs.was_seen(str(controller_of(pod).get("uid")))
        if run is None or not is_seen or labels.get(STAGE_LABEL) != "train":
            return 0
        gpu = run["spec"].get("resources", {}).get("train", {}).get("gpu", {})
        return int(gpu.get("count", 1))

    def _seconds(self, pod: Object) -> float:
        """From the start of its container to the end, where that was seen by this process."""
        times = [(moment(end.get("startedAt")), moment(end.get("finishedAt"))) for end in terminated([pod])]
        return sum(
            max(0.0, (end - start).total_seconds())
            for start, end in times
            if start and end and end >= self._since
        )

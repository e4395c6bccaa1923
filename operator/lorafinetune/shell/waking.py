"""What happens in the cluster → which resource is looked at."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from lorafinetune import api
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.observed import NAME_LABEL
from lorafinetune.core.pods import has_ended, job_of
from lorafinetune.shell.index import Index, Key, key_of
from lorafinetune.shell.interest import Interest
from lorafinetune.shell.progress import ProgressMemory
from lorafinetune.shell.trimming import Object, controller

MOST_WORDS: Final = 256
"""Pods of one Job of which the last words are kept: four times as many as a training may have nodes. A Job
whose pods are preempted over and over has any number."""

Wake = Callable[[Key, float], None]
"""Takes a resource, and the seconds until it is to be looked at."""


class Waking:
    """Puts what the watches show into the index, and wakes whom it concerns."""

    def __init__(self, index: Index, interest: Interest, progress: ProgressMemory, wake: Wake) -> None:
        self._index = index
        self._interest = interest
        self._progress = progress
        self._wake = wake
        self._last_words: dict[Key, OrderedDict[tuple[str, str, str], None]] = {}

    def seen(self, plural: str, kind: str | None, given: Object) -> None:
        """Takes in what a watch shows. kind: of the event; None in a list."""
        if kind == "DELETED":
            self.gone(plural, given)
        elif self._index.tables[plural].put(given):
            self._changed(plural, given)

    def gone(self, plural: str, given: Object) -> None:
        """Takes in that an object is there no longer."""
        key = key_of(given)
        if plural == "pods" and self._keeps_words_of(given):
            return
        if not self._index.tables[plural].drop(*key, given["metadata"]["uid"]):
            return
        if plural == "jobs":
            self._progress.forget(key)
            for pod in self._last_words.pop(key, ()):
                self._index.pods.drop(*pod)
        self._changed(plural, given)

    def _keeps_words_of(self, pod: Object) -> bool:
        """A Pod that was deleted may be gone before its Job is said to have failed: what it said when it
        ended is kept as long as the Job is there."""
        job = self._index.job_of(pod)
        if not has_ended(pod) or not job:
            return False
        said = self._last_words.setdefault(key_of(job), OrderedDict())
        said[*key_of(pod), pod["metadata"]["uid"]] = None
        if self._index.pods.put(pod):
            self._pod(pod)
        if len(said) > MOST_WORDS:
            self._index.pods.drop(*said.popitem(last=False)[0])
        return True

    def progress(self, namespace: str, job: str, progress: Progress) -> None:
        """Takes in what a pod has posted; its resource is looked at when that may be shown. Of a Job that is
        gone nothing is kept: nobody would say when to forget it."""
        if self._index.jobs.get(namespace, job):
            self.job((namespace, job), after=self._progress.accept((namespace, job), progress))

    def job(self, job: Key, after: float = 0) -> None:
        """Wakes whom a Job of that name concerns."""
        if held := self._index.jobs.get(*job):
            self._owner(held, after)
        for resource in self._interest.of(job):
            self._wake(resource, after)

    def _changed(self, plural: str, given: Object) -> None:
        match plural:
            case api.PLURAL:
                self._wake(key_of(given), 0)
            case "jobs":
                if _has_ended(given):
                    self._progress.forget(key_of(given))
                self._owner(given, 0)
                self.job(key_of(given))
            case _:
                self._pod(given)

    def _owner(self, job: Object, after: float) -> None:
        if owner := controller(job):
            self._wake((key_of(job)[0], str(owner["name"])), after)

    def _pod(self, given: Object) -> None:
        namespace, _ = key_of(given)
        self.job((namespace, job_of(given)))
        if name := given["metadata"].get("labels", {}).get(NAME_LABEL):
            self._wake((namespace, name), 0)


def _has_ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

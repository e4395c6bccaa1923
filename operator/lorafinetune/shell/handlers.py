"""What happens in the cluster → which resource is reconciled."""

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
from lorafinetune.shell.projections import Object, controller

MOST_FINAL_PODS: Final = 256
"""Pods of one Job of which the last words are kept: four times as many as a training may have nodes. A Job
whose pods are preempted over and over has any number."""

Enqueue = Callable[[Key, float], None]
"""Takes a resource, and the seconds until it is to be reconciled."""


class EventHandler:
    """Puts what the watches show into the index, and enqueues the resources that it concerns."""

    def __init__(self, index: Index, interest: Interest, progress: ProgressMemory, enqueue: Enqueue) -> None:
        self._index = index
        self._interest = interest
        self._progress = progress
        self._enqueue = enqueue
        self._final_pods: dict[Key, OrderedDict[tuple[str, str, str], None]] = {}

    def handle(self, plural: str, event_type: str | None, obj: Object) -> None:
        """Takes in what a watch shows. event_type: None in a list."""
        if event_type == "DELETED":
            self.handle_deletion(plural, obj)
        elif self._index.tables[plural].put(obj):
            self._changed(plural, obj)

    def handle_deletion(self, plural: str, obj: Object) -> None:
        """Takes in that an object is there no longer."""
        key = key_of(obj)
        if plural == "pods" and self._keep_final(obj):
            return
        if not self._index.tables[plural].drop(*key, obj["metadata"]["uid"]):
            return
        if plural == "jobs":
            self._progress.forget(key)
            for pod in self._final_pods.pop(key, ()):
                self._index.pods.drop(*pod)
        self._changed(plural, obj)

    def _keep_final(self, pod: Object) -> bool:
        """A Pod that was deleted may be gone before its Job is said to have failed: what it said when it
        ended is kept as long as the Job is there."""
        job = self._index.job_of(pod)
        if not has_ended(pod) or not job:
            return False
        final = self._final_pods.setdefault(key_of(job), OrderedDict())
        final[*key_of(pod), pod["metadata"]["uid"]] = None
        if self._index.pods.put(pod):
            self._enqueue_for_pod(pod)
        if len(final) > MOST_FINAL_PODS:
            self._index.pods.drop(*final.popitem(last=False)[0])
        return True

    def handle_progress(self, namespace: str, job: str, progress: Progress) -> None:
        """Takes in what a pod has posted; its resource is reconciled when that may be shown. Of a Job that is
        gone nothing is kept: nobody would say when to forget it."""
        if self._index.jobs.get(namespace, job):
            self.enqueue_for((namespace, job), after=self._progress.accept((namespace, job), progress))

    def enqueue_for(self, job: Key, after: float = 0) -> None:
        """Enqueues the resources that a Job of that name concerns."""
        if found := self._index.jobs.get(*job):
            self._enqueue_owner(found, after)
        for resource in self._interest.of(job):
            self._enqueue(resource, after)

    def _changed(self, plural: str, obj: Object) -> None:
        match plural:
            case api.PLURAL:
                self._enqueue(key_of(obj), 0)
            case "jobs":
                if _has_ended(obj):
                    self._progress.forget(key_of(obj))
                self._enqueue_owner(obj, 0)
                self.enqueue_for(key_of(obj))
            case _:
                self._enqueue_for_pod(obj)

    def _enqueue_owner(self, job: Object, after: float) -> None:
        if owner := controller(job):
            self._enqueue((key_of(job)[0], str(owner["name"])), after)

    def _enqueue_for_pod(self, obj: Object) -> None:
        namespace, _ = key_of(obj)
        self.enqueue_for((namespace, job_of(obj)))
        if name := obj["metadata"].get("labels", {}).get(NAME_LABEL):
            self._enqueue((namespace, name), 0)


def _has_ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

"""Which resources are enqueued for a Job that may belong to another: two with one key share a training."""

from lorafinetune.shell.index import Key


class Interest:
    """Resources by the Jobs whose names they may want, and the other way round."""

    def __init__(self) -> None:
        self._names: dict[Key, frozenset[str]] = {}
        self._resources: dict[Key, set[Key]] = {}

    def set(self, resource: Key, jobs: frozenset[str]) -> None:
        """Replaces the Jobs that a resource is enqueued for, in its own namespace."""
        if self._names.get(resource, frozenset()) == jobs:
            return
        self.forget(resource)
        self._names[resource] = jobs
        for name in jobs:
            self._resources.setdefault((resource[0], name), set()).add(resource)

    def forget(self, resource: Key) -> None:
        for name in self._names.pop(resource, frozenset()):
            job = (resource[0], name)
            self._resources[job].discard(resource)
            if not self._resources[job]:
                del self._resources[job]

    def of(self, job: Key) -> frozenset[Key]:
        return frozenset(self._resources.get(job, ()))

"""What the watches have shown, and the answers to our own writes, as small projections in memory.

An answer enters at once, so no plan is made from a state that lacks what was just written. The newest
version of an object wins, whichever way it came.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

from lorafinetune.api import PLURAL
from lorafinetune.core.pods import controller_of, job_of
from lorafinetune.shell import projections
from lorafinetune.shell.compression import Compressor
from lorafinetune.shell.projections import Object, Trim
from lorafinetune.shell.states import state_of

Key = tuple[str, str]
"""Namespace and name."""

State = tuple[str, str]
"""What objects of a kind are counted by."""
NONE: Final = ("", "")

REMEMBERED_DELETIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    version: int
    group: Key
    state: State
    body: bytes


class Table:
    """The objects of one kind, by namespace and name, and by a group that the kind defines.

    group: the name that an object is also found under, within its namespace. state: what it is counted by.
    """

    def __init__(
        self, trim: Trim, group: Callable[[Object], str], state: Callable[[Object], State] = lambda _: NONE
    ) -> None:
        self._trim = trim
        self._group = group
        self._state = state
        self._compressor = Compressor()
        self._entries: dict[Key, _Entry] = {}
        self._groups: dict[Key, tuple[Key, ...]] = {}
        self._by_uid: dict[str, Key] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._foreign: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, obj: Object) -> bool:
        """Takes an object in, unless a newer one is there. Whether anything that is read has changed.

        What is there changes without a new version where its definition does, and other fields are served.
        """
        key, uid, version = key_of(obj), obj["metadata"]["uid"], int(obj["metadata"]["resourceVersion"])
        existing = self._entries.get(key)
        if uid in self._deleted or (existing and existing.version > version):
            return False
        trimmed = self._trim(obj)
        if trimmed is None:
            self._foreign.add(uid)
            return self._remove(key)
        group = (key[0], intern(self._group(trimmed)))
        entry = _Entry(uid, version, group, self._state(trimmed), self._compressor.pack(trimmed))
        self._remove(key)
        self._add(key, entry)
        return existing is None or (existing.uid, existing.body) != (entry.uid, entry.body)

    def drop(self, namespace: str, name: str, uid: str) -> bool:
        """Forgets an object that is gone, whatever is still said of it. Whether it was there."""
        self._foreign.discard(uid)
        self._deleted[uid] = None
        if len(self._deleted) > REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        existing = self._entries.get((namespace, name))
        return existing is not None and existing.uid == uid and self._remove((namespace, name))

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The projection of an object, with its resourceVersion."""
        entry = self._entries.get((namespace, name))
        if entry is None:
            return None
        trimmed = self._compressor.unpack(entry.body)
        trimmed["metadata"]["resourceVersion"] = str(entry.version)
        return trimmed

    def of_uid(self, uid: str) -> dict[str, Any] | None:
        key = self._by_uid.get(uid)
        return self.get(*key) if key else None

    def group(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """The objects that belong to a group."""
        return [found for key in self._groups.get((namespace, name), ()) if (found := self.get(*key))]

    def tally(self) -> Counter[State]:
        """How many there are of each state."""
        return Counter(entry.state for entry in self._entries.values())

    def was_seen(self, uid: str) -> bool:
        """Whether an object was shown, even if it is gone again or none of ours."""
        return uid in self._by_uid or uid in self._foreign or uid in self._deleted

    def misses(self, metadata: Object) -> bool:
        """Whether there is something newer of an object than was shown, by its metadata."""
        key = self._by_uid.get(uid := metadata["uid"])
        if key is None:
            return not self.was_seen(uid)
        return self._entries[key].version < int(metadata["resourceVersion"])

    def uids(self) -> dict[str, Key]:
        """Which objects are held now."""
        return dict(self._by_uid)

    def _add(self, key: Key, entry: _Entry) -> None:
        self._foreign.discard(entry.uid)
        self._entries[key] = entry
        self._by_uid[entry.uid] = key
        self._groups[entry.group] = (*self._groups.get(entry.group, ()), key)

    def _remove(self, key: Key) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._by_uid.pop(entry.uid, None)
        left = tuple(other for other in self._groups.pop(entry.group) if other != key)
        if left:
            self._groups[entry.group] = left
        return True


class Index:
    """The resources, their Jobs by the uid of the resource, and the Pods by the name of their Job."""

    def __init__(self) -> None:
        self.resources = Table(
            projections.resource,
            lambda resource: str(resource["metadata"]["name"]),
            lambda resource: state_of(resource.get("status") or {}),
        )
        self.jobs = Table(
            projections.job, lambda job: str((projections.controller(job) or {}).get("uid", ""))
        )
        self.pods = Table(projections.pod, job_of)

    @property
    def tables(self) -> Mapping[str, Table]:
        """By the plural names of the kinds."""
        return {PLURAL: self.resources, "jobs": self.jobs, "pods": self.pods}

    def job_of(self, pod: Object) -> dict[str, Any] | None:
        """The Job that made a Pod, if it is there: a later one of the same name is another."""
        job = self.jobs.get(key_of(pod)[0], job_of(pod))
        return job if job and controller_of(pod)["uid"] == job["metadata"]["uid"] else None


def key_of(obj: Object) -> Key:
    metadata = obj["metadata"]
    return intern(metadata["namespace"]), metadata["name"]

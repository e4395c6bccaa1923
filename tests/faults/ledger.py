"""What was seen of every life, in the order of etcd's versions: its statuses, and each Job and Pod."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.pods import JOB_LABEL, has_ended

Object = dict[str, Any]

TIMES: Final = frozenset({"startTime", "completionTime", "lastTransitionTime", "time"})


@dataclass
class Seen:
    """Of one namespace. statuses: each with its version. jobs, pods: uids, by name of the Job. born, done:
    versions at which a Job was made and at which one ended well, by its name. begun, over: versions at which
    a Pod was made and at which it had ended or was gone, by its uid. handed: what its ConfigMap says in the
    end. services: how many there are in the end."""

    statuses: list[tuple[int, Object]] = field(default_factory=list)
    jobs: dict[str, set[str]] = field(default_factory=dict)
    pods: dict[str, set[str]] = field(default_factory=dict)
    born: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    over: dict[str, int] = field(default_factory=dict)
    ttl: dict[str, int | None] = field(default_factory=dict)
    handed: Object = field(default_factory=dict)
    services: int = 0

    @property
    def status(self) -> Object:
        return self.statuses[-1][1] if self.statuses else {}

    def end(self) -> Object:
        """What is to be the same whatever went wrong: the status without its times, which Jobs there were,
        how many of each name, what is left of them, what others are told, and how many Services there are."""
        return {
            "status": without_times(self.status),
            "jobs": {name: len(uids) for name, uids in sorted(self.jobs.items())},
            "pods": {name: len(uids) for name, uids in sorted(self.pods.items())},
            "left": dict(sorted(self.ttl.items())),
            "handed": self.handed,
            "services": self.services,
        }


class Ledger:
    """Everything that was seen, by namespace."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}

    def resource(self, kind: str, given: Object) -> None:
        if kind != "DELETED" and "status" in given:
            told = (version(given), given["status"])
            seen = self._of(given)
            if not seen.statuses or seen.statuses[-1][1] != told[1]:
                seen.statuses.append(told)

    def job(self, kind: str, given: Object) -> None:
        seen, name = self._of(given), given["metadata"]["name"]
        seen.jobs.setdefault(name, set()).add(given["metadata"]["uid"])
        seen.born.setdefault(name, version(given))
        conditions = given.get("status", {}).get("conditions", [])
        if any(c["type"] == "Complete" and c["status"] == "True" for c in conditions):
            seen.done.setdefault(name, version(given))
        seen.ttl[name] = given["spec"].get("ttlSecondsAfterFinished")
        if kind == "DELETED":
            del seen.ttl[name]

    def pod(self, kind: str, given: Object) -> None:
        seen, uid = self._of(given), given["metadata"]["uid"]
        seen.pods.setdefault(given["metadata"]["labels"][JOB_LABEL], set()).add(uid)
        seen.begun.setdefault(uid, version(given))
        if kind == "DELETED" or has_ended(given):
            seen.over.setdefault(uid, version(given))

    def of(self, namespace: str) -> Seen:
        return self.seen.setdefault(namespace, Seen())

    def _of(self, given: Object) -> Seen:
        return self.of(given["metadata"]["namespace"])


def version(given: Object) -> int:
    return int(given["metadata"]["resourceVersion"])


def without_times(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {name: without_times(value) for name, value in given.items() if name not in TIMES}
    return [without_times(each) for each in given] if isinstance(given, list) else given


def wrong(seen: Seen) -> list[str]:
    """What a status said on the way that was not so, in a life whose stages end well in the end."""
    return [fault for at, status in seen.statuses for fault in _untrue(seen, at, status)] + list(_back(seen))


def _untrue(seen: Seen, at: int, status: Object) -> Iterator[str]:
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    states = {stage["name"]: stage for stage in status.get("stages", [])}
    failure = status.get("failure", {})
    if failure.get("reason", Reason.PREEMPTED) != Reason.PREEMPTED or conditions.get("Failed") == "True":
        yield f"a failure that nobody had: {failure}"
    if conditions.get("Complete") == "True" and complete(status) < len(STAGES):
        yield "Complete before its stages"
    if conditions.get("Suspended") == "True" and _runs(seen, at):
        yield "Suspended before its Pods are gone"
    for stage in states.values():
        job = stage.get("job", "")
        if job and seen.born.get(job, inf) > at:
            yield f"the Job {job} before it was made"
        if stage.get("state") == "Complete" and seen.done.get(job, inf) > at:
            yield f"{stage['name']} is complete before its Job"


def _runs(seen: Seen, at: int) -> bool:
    return any(begun < at < seen.over.get(uid, inf) for uid, begun in seen.begun.items())


def _back(seen: Seen) -> Iterator[str]:
    counts = [complete(status) for _, status in seen.statuses]
    if counts != sorted(counts):
        yield f"complete stages went {counts}"


def complete(status: Object) -> int:
    """How many stages are complete."""
    return Counter(stage.get("state") for stage in status.get("stages", []))["Complete"]


def is_complete(status: Object) -> bool:
    return is_said(status, "Complete")


def is_said(status: Object, condition: str) -> bool:
    """Whether a condition is true."""
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions", []))

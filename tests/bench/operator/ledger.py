"""What was seen of the runs, and when: everything that is reported of them is computed from here."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Any, Final

from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.observed import NAME_LABEL, STAGE_LABEL

Object = dict[str, Any]
Step = tuple[str, str]
"""Name of a resource, and stage."""

ENDED: Final = "Complete"


@dataclass
class Ledger:
    """Times are seconds of one clock; only what was seen first counts."""

    created: dict[str, float] = field(default_factory=dict)
    began: dict[Step, float] = field(default_factory=dict)
    done: dict[Step, float] = field(default_factory=dict)
    complete: dict[str, float] = field(default_factory=dict)
    jobs: dict[Step, set[str]] = field(default_factory=dict)
    pods: dict[Step, set[str]] = field(default_factory=dict)

    def resource(self, given: Object, at: float) -> None:
        if _is_complete(given):
            self.complete.setdefault(str(given["metadata"]["name"]), at)

    def job(self, given: Object, at: float) -> None:
        step = step_of(given)
        self.jobs.setdefault(step, set()).add(str(given["metadata"]["uid"]))
        self.began.setdefault(step, at)
        if _is_complete(given):
            self.done.setdefault(step, at)

    def pod(self, given: Object) -> None:
        self.pods.setdefault(step_of(given), set()).add(str(given["metadata"]["uid"]))

    def to_first_job(self, names: Collection[str]) -> list[float]:
        """Seconds from the answer to the creation of a resource to its first Job."""
        first = STAGES[0]
        return [self.began[n, first] - self.created[n] for n in names if (n, first) in self.began]

    def to_next_job(self, names: Collection[str]) -> list[float]:
        """Seconds from a Job that is done to the Job of the next stage."""
        steps = (((name, a), (name, b)) for name in names for a, b in pairwise(STAGES))
        return [self.began[b] - self.done[a] for a, b in steps if a in self.done and b in self.began]

    def duplicates(self, names: Collection[str]) -> int:
        """Jobs and Pods beyond the one that each stage of each run needs."""
        wanted = set(names)
        return sum(len(uids) - 1 for step, uids in self._uids() if step[0] in wanted)

    def missing(self, names: Collection[str]) -> set[str]:
        """Those that have not ended."""
        return set(names) - self.complete.keys()

    def _uids(self) -> Iterator[tuple[Step, set[str]]]:
        yield from self.jobs.items()
        yield from self.pods.items()


def step_of(given: Object) -> Step:
    """Which stage of which run a Job or a Pod is for."""
    labels = given["metadata"]["labels"]
    return str(labels[NAME_LABEL]), str(labels[STAGE_LABEL])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of them do not exceed."""
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]


def _is_complete(given: Object) -> bool:
    conditions = given.get("status", {}).get("conditions", [])
    return any(c["type"] == ENDED and c["status"] == "True" for c in conditions)

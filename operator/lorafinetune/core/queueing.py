"""What Kueue says of a training that it holds back: in Warning events about its Workload of the Job.

To read it there needs no right to read Workloads, and a cluster without Kueue needs no special case.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lorafinetune.core.pods import brief
from lorafinetune.core.refusals import when

Object = Mapping[str, Any]

WORKLOAD: Final = "Workload"
PENDING: Final = "Pending"
PREFIX: Final = "job-"
"""Kueue names a Workload by the kind of what it is for, its name, and five characters."""


def job_of_workload(name: str) -> str:
    """Name of the Job."""
    return name.removeprefix(PREFIX).rpartition("-")[0]


def why_held(job: str, events: Iterable[Object]) -> str:
    """In Kueue's words, by the newest event; empty where it says nothing. job: its name."""
    about = (event for event in events if event["involvedObject"].get("kind") == WORKLOAD)
    told = [event for event in about if job_of_workload(str(event["involvedObject"].get("name"))) == job]
    pending = [event for event in told if event.get("reason") == PENDING]
    return brief(str(max(pending, key=when).get("message", ""))) if pending else ""

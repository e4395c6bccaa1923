"""Why a queue holds a training is told in its words, from events that anybody in the namespace may write."""

from typing import Any, Final

import pytest

from lorafinetune.core.queueing import why_held

JOB: Final = "tune-train-0123456789"


def pending(
    message: str, at: str = "11:00", name: str = f"job-{JOB}-0a1b2", **changes: Any
) -> dict[str, Any]:
    return {
        "involvedObject": {"kind": "Workload", "name": name},
        "reason": "Pending",
        "message": message,
        "lastTimestamp": f"2026-11-24T{at}:00Z",
        **changes,
    }


FULL: Final = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default"
HELD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing is said of a queue": ([], ""),
    "the queue says why": ([pending(FULL)], FULL),
    "the newest event counts, in whatever order they come": (
        [pending("new", "11:05"), pending("old", "11:01")],
        "new",
    ),
    "of two Jobs each has its own": ([pending(FULL, name="job-other-train-0a1b2")], ""),
    "another event about the Workload is none of it": ([pending(FULL, reason="Evicted")], ""),
    "an event about the Job is none of it": (
        [pending(FULL, involvedObject={"kind": "Job", "name": JOB})],
        "",
    ),
    "what would paint a terminal is replaced": ([pending("\x1b[31mfull\nup")], "�[31mfull up"),
    "a Workload without a name is nobody's": ([pending(FULL, involvedObject={"kind": "Workload"})], ""),
}


@pytest.mark.parametrize(("events", "told"), HELD.values(), ids=HELD)
def test_why_a_queue_holds_a_training(events: list[dict[str, Any]], told: str) -> None:
    assert why_held(JOB, events) == told

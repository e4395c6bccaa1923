"""What the ledger finds wrong in a life."""

from typing import Any, Final

import pytest

from faults.ledger import Ledger, wrong
from lorafinetune.core.pods import JOB_LABEL

NAMESPACE: Final = "life"
SUSPENDED: Final = {"conditions": [{"type": "Suspended", "status": "True"}]}
ENDS: Final = {
    "before it is gone": ([], ["Suspended before its Pods are gone"]),
    "once it has ended": ([("MODIFIED", 2, "Succeeded")], []),
    "once it is gone": ([("DELETED", 2, "Running")], []),
    "and it is gone later": ([("DELETED", 4, "Running")], ["Suspended before its Pods are gone"]),
}
"""What is seen of a Pod of the first version, and what is wrong with a suspension of the third."""


def seen(version: int, name: str = "life", **more: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "resourceVersion": str(version),
        "uid": "1",
        "labels": {JOB_LABEL: "job"},
    }
    return {"metadata": metadata, **more}


@pytest.mark.parametrize("sentence", ENDS)
def test_a_run_with_a_pod_is_suspended(sentence: str) -> None:
    events, faults = ENDS[sentence]
    ledger = Ledger()
    ledger.pod("ADDED", seen(1, status={"phase": "Pending"}))
    ledger.resource("MODIFIED", seen(3, status=SUSPENDED))
    for kind, version, phase in events:
        ledger.pod(kind, seen(version, status={"phase": phase}))
    assert wrong(ledger.of(NAMESPACE)) == faults


CAME_TO_ITS_END: Final = {"job": "train-1", "state": "Complete"}
TOLD: Final[dict[str, tuple[list[tuple[int, dict[str, Any]]], list[str]]]] = {
    "what is so": ([(2, {"job": "train-1", "state": "Running"}), (4, CAME_TO_ITS_END)], []),
    "a Job before it is made": ([(1, {"job": "train-1"})], ["the Job train-1 before it was made"]),
    "a Job that is never made": ([(9, {"job": "train-2"})], ["the Job train-2 before it was made"]),
    "a stage that is complete before its Job": ([(3, CAME_TO_ITS_END)], ["train is complete before its Job"]),
    "a stage that is complete without a Job": (
        [(9, {"state": "Complete"})],
        ["train is complete before its Job"],
    ),
    "a stage that is complete no more": (
        [(4, CAME_TO_ITS_END), (5, {"job": "train-1", "state": "Running"})],
        ["complete stages went [1, 0]"],
    ),
}
"""What a status of some version says of a stage whose Job is made at the second and complete at the fourth,
and what is wrong with it."""


@pytest.mark.parametrize("sentence", TOLD)
def test_of_a_stage_is_told(sentence: str) -> None:
    statuses, faults = TOLD[sentence]
    ledger = Ledger()
    for version, conditions in ((2, []), (4, [{"type": "Complete", "status": "True"}])):
        ledger.job("MODIFIED", seen(version, name="train-1", spec={}, status={"conditions": conditions}))
    for version, stage in statuses:
        ledger.resource("MODIFIED", seen(version, status={"stages": [{"name": "train", **stage}]}))
    assert wrong(ledger.of(NAMESPACE)) == faults


SAID: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "a failure": ({"failure": {"reason": "Internal"}}, ["a failure that nobody had: {'reason': 'Internal'}"]),
    "a preemption, which is none": ({"failure": {"reason": "Preempted"}}, []),
    "that it failed": (
        {"conditions": [{"type": "Failed", "status": "True"}]},
        ["a failure that nobody had: {}"],
    ),
    "that it is complete, before its stages are": (
        {"conditions": [{"type": "Complete", "status": "True"}]},
        ["Complete before its stages"],
    ),
    "that it is not complete": ({"conditions": [{"type": "Complete", "status": "False"}]}, []),
}
"""What a status says of the whole run, and what is wrong with it."""


@pytest.mark.parametrize("sentence", SAID)
def test_of_a_run_is_told(sentence: str) -> None:
    status, faults = SAID[sentence]
    ledger = Ledger()
    ledger.resource("MODIFIED", seen(1, status=status))
    assert wrong(ledger.of(NAMESPACE)) == faults

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


def seen(version: int, **more: Any) -> dict[str, Any]:
    metadata = {
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

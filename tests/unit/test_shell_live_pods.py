"""A pod's uid → the Job that it may speak for, as the index has both."""

from typing import Any

import pytest

from lorafinetune.core.pods import JOB_LABEL
from lorafinetune.shell.index import Index
from lorafinetune.shell.operator import live_pod
from lorafinetune.shell.receiver import LivePod
from unit.shell_objects import job, pod

RUNS: dict[str, Any] = {"status": {"phase": "Running"}}
OWNER: dict[str, Any] = pod()["metadata"]["ownerReferences"][0]


def known(jobs: list[dict[str, Any]], of: dict[str, Any]) -> LivePod | None:
    index = Index()
    for each in jobs:
        index.jobs.put(each)
    index.pods.put(of)
    return live_pod(index, "uid-pod")


def test_a_pod_speaks_for_the_job_that_made_it() -> None:
    assert known([job()], pod(**RUNS)) == LivePod("team-a", "pod", "uid-pod", "job", ended=False)
    assert known([job()], pod()) == LivePod("team-a", "pod", "uid-pod", "job", ended=True)


NOBODYS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "it is of a Job that is gone": ([], pod()),
    "it is of a Job that is not ours": ([job(metadata={"ownerReferences": None})], pod()),
    "it is of an earlier Job of the name": ([job(metadata={"uid": "uid-of-the-next"})], pod()),
    "it only has the labels": ([job()], pod(metadata={"ownerReferences": None})),
    "its Job does not control it": (
        [job()],
        pod(metadata={"ownerReferences": [OWNER | {"controller": False}]}),
    ),
    "something else of that name and uid controls it": (
        [job()],
        pod(metadata={"ownerReferences": [OWNER | {"kind": "ReplicaSet"}]}),
    ),
    "its Job is of another namespace": ([job()], pod(metadata={"namespace": "team-b"})),
}


@pytest.mark.parametrize("sentence", NOBODYS)
def test_a_pod_speaks_for_nobody_if(sentence: str) -> None:
    jobs, of = NOBODYS[sentence]
    assert known(jobs, of) is None


def test_a_pod_speaks_for_its_own_job_whatever_its_label_says() -> None:
    found = known([job(), job("other")], pod(metadata={"labels": {JOB_LABEL: "other"}}))
    assert found is not None
    assert found.job_name == "job"

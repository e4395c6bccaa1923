"""What enters the index, what is kept of it, and which version wins."""

from typing import Any

import pytest
from pydantic import ValidationError

from lorafinetune.api.codec import decode
from lorafinetune.api.status import MOST_STEPS
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.observed import ATTEMPT_ANNOTATION, CHECKPOINT_ANNOTATION, OURS, STAGE_LABEL
from lorafinetune.core.pods import JOB_LABEL
from lorafinetune.shell import projections
from lorafinetune.shell.index import Index
from unit.shell_objects import job, pod, stored, warning

OF_A_JOB: dict[str, Any] = pod()["metadata"]["ownerReferences"][0]
FOREIGN: dict[str, dict[str, Any]] = {
    "it does not carry our label": {"metadata": {"labels": {OURS[0]: "Helm"}}},
    "nobody controls it": {"metadata": {"ownerReferences": None}},
    "somebody else controls it": {"metadata": {"ownerReferences": [{"kind": "CronJob", "controller": True}]}},
    "its stage is none": {"metadata": {"labels": {STAGE_LABEL: "brew"}}},
    "its attempt is no number": {"metadata": {"annotations": {ATTEMPT_ANNOTATION: "²"}}},
    "its checkpoint is no number": {"metadata": {"annotations": {CHECKPOINT_ANNOTATION: "-1"}}},
    "its checkpoint is beyond the last step": {
        "metadata": {"annotations": {CHECKPOINT_ANNOTATION: str(MOST_STEPS + 1)}}
    },
    "its checkpoint has no end": {"metadata": {"annotations": {CHECKPOINT_ANNOTATION: "9" * 5000}}},
    "it says nothing of its attempt": {"metadata": {"annotations": {ATTEMPT_ANNOTATION: None}}},
}


@pytest.mark.parametrize("sentence", FOREIGN)
def test_a_job_is_not_ours_if(sentence: str) -> None:
    index = Index()
    assert not index.jobs.put(job(**FOREIGN[sentence]))
    assert index.jobs.get("team-a", "job") is None
    assert index.jobs.was_seen("uid-job")


def test_a_job_that_goes_on_from_the_last_step_of_all_is_ours() -> None:
    given = job(metadata={"annotations": {CHECKPOINT_ANNOTATION: str(MOST_STEPS)}})
    assert Index().jobs.put(given)
    Progress(stage="train", checkpoint_step=MOST_STEPS)
    with pytest.raises(ValidationError):
        Progress(stage="train", checkpoint_step=MOST_STEPS + 1)


NO_POD_OF_A_JOB: dict[str, dict[str, Any]] = {
    "it does not carry our label": {"labels": {OURS[0]: "Helm"}},
    "nothing controls it": {"ownerReferences": None},
    "its owner does not control it": {"ownerReferences": [OF_A_JOB | {"controller": False}]},
    "something else controls it": {"ownerReferences": [OF_A_JOB | {"kind": "ReplicaSet"}]},
    "another kind of Job controls it": {"ownerReferences": [OF_A_JOB | {"apiVersion": "example.com/v1"}]},
}


@pytest.mark.parametrize("sentence", NO_POD_OF_A_JOB)
def test_a_pod_is_of_no_job_if(sentence: str) -> None:
    index = Index()
    assert not index.pods.put(pod(metadata=NO_POD_OF_A_JOB[sentence]))
    assert len(index.pods) == 0


def test_a_pod_is_of_the_job_that_controls_it_whatever_its_label_says() -> None:
    index = Index()
    index.pods.put(pod(metadata={"labels": {JOB_LABEL: "other"}}))
    assert [found["metadata"]["name"] for found in index.pods.group("team-a", "job")] == ["pod"]


def test_of_a_resource_all_is_kept_that_decoding_needs() -> None:
    index = Index()
    index.resources.put(stored(version=7))
    kept = index.resources.get("team-a", "tune")
    assert kept is not None
    assert decode(kept) == decode({**stored(version=7), "metadata": kept["metadata"]})
    assert kept["metadata"]["annotations"] == {"lorafinetune.dev/refresh": "1"}
    assert "managedFields" not in kept["metadata"]


def test_of_a_job_and_a_pod_only_what_is_read_is_kept() -> None:
    kept_job, kept_pod = projections.job(job()), projections.pod(pod())
    assert kept_job is not None
    assert kept_pod is not None
    assert kept_job["spec"] == {"suspend": False}
    assert kept_job["status"] == {"active": 1}
    assert set(kept_job["metadata"]["annotations"]) <= {
        "lorafinetune.dev/attempt",
        "lorafinetune.dev/generation",
    }
    assert "someone/else" not in kept_job["metadata"]["labels"]
    assert kept_pod["spec"] == {"nodeName": "node-1"}
    assert set(kept_pod["status"]["containerStatuses"][0]) == {"name", "image", "state", "lastState"}


@pytest.mark.parametrize(
    "given", [warning(kind="Node"), warning(type="Normal"), warning(involvedObject=None)]
)
def test_an_event_that_is_no_warning_about_a_job_or_pod_is_not_kept(given: dict[str, Any]) -> None:
    assert projections.event(given) is None


def test_an_older_version_does_not_replace_a_newer() -> None:
    index = Index()
    assert index.jobs.put(job(version=10, spec={"suspend": True}))
    assert not index.jobs.put(job(version=9))
    assert index.jobs.get("team-a", "job") == index.jobs.of_uid("uid-job")
    assert (index.jobs.get("team-a", "job") or {})["spec"]["suspend"] is True


def test_what_another_definition_serves_of_the_same_version_is_taken_in() -> None:
    index = Index()
    index.jobs.put(job(version=10, spec={"suspend": True}))
    assert index.jobs.put(job(version=10))
    assert not index.jobs.put(job(version=10))
    assert (index.jobs.get("team-a", "job") or {})["spec"]["suspend"] is False


def test_a_change_that_nobody_reads_is_none_but_the_version_counts() -> None:
    index = Index()
    index.jobs.put(job(version=1))
    assert not index.jobs.put(job(version=2, metadata={"labels": {"someone/else": "y"}}))
    assert (index.jobs.get("team-a", "job") or {})["metadata"]["resourceVersion"] == "2"


def test_what_is_gone_does_not_come_back_by_a_late_answer() -> None:
    index = Index()
    index.jobs.put(job(version=1))
    assert index.jobs.drop("team-a", "job", "uid-job")
    assert not index.jobs.put(job(version=2))
    assert len(index.jobs) == 0


def test_the_end_of_one_object_is_not_that_of_the_next_with_its_name() -> None:
    index = Index()
    index.jobs.put(job(version=1))
    index.jobs.put(job(version=2, metadata={"uid": "uid-next"}))
    assert not index.jobs.drop("team-a", "job", "uid-job")
    assert index.jobs.of_uid("uid-next") is not None
    assert index.jobs.of_uid("uid-job") is None


def test_jobs_are_found_by_their_resource_and_pods_by_their_job() -> None:
    index = Index()
    for name, owner in (("a", "tune"), ("b", "tune"), ("c", "other")):
        index.jobs.put(job(name, owner=owner))
        index.pods.put(pod(f"pod-{name}", of=name))
    assert [found["metadata"]["name"] for found in index.jobs.group("team-a", "uid-tune")] == ["a", "b"]
    assert [found["metadata"]["name"] for found in index.pods.group("team-a", "c")] == ["pod-c"]
    index.jobs.drop("team-a", "a", "uid-a")
    assert [found["metadata"]["name"] for found in index.jobs.group("team-a", "uid-tune")] == ["b"]
    assert index.jobs.group("team-b", "uid-tune") == []


def test_resources_are_counted_by_their_state_as_it_is_now() -> None:
    index = Index()
    ready = {"type": "Ready", "status": "False", "reason": "Train"}
    trains = {"status": {"conditions": [ready]}}
    for name in ("one", "two", "three"):
        index.resources.put(stored(name))
    index.resources.put(stored("one", version=2, **trains))
    index.resources.drop("team-a", "two", "uid-two")
    assert index.resources.tally() == {("Pending", ""): 1, ("Running", "Train"): 1}


def test_a_thousand_runs_take_little_memory() -> None:
    index = Index()
    for number in range(1000):
        index.resources.put(stored(f"tune-{number}"))
        index.pods.put(pod(f"pod-{number}"))
    packed = [entry.body for table in (index.resources, index.pods) for entry in table._entries.values()]
    assert sum(map(len, packed)) < 400 * 1000

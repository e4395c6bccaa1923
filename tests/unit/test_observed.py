"""Job and Pod objects → what has happened."""

from datetime import timedelta
from typing import Any

import pytest

from builders import NOW, result
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, encode_error, encode_result
from lorafinetune.core.observed import observe


def a_job(condition: str | None = None, **extra: Any) -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", **extra}] if condition else []
    return {
        "metadata": {
            "name": "job",
            "uid": "job-uid",
            "labels": {"lorafinetune.dev/stage": "train"},
            "ownerReferences": [{"controller": True, "uid": "uid-1", "name": "tune"}],
            "annotations": {"lorafinetune.dev/attempt": "2", "lorafinetune.dev/generation": "3"},
        },
        "spec": {},
        "status": {"conditions": conditions},
    }


def a_pod(phase: str = "Running", **terminated: Any) -> dict[str, Any]:
    state = {"terminated": terminated} if terminated else {"running": {}}
    return {
        "metadata": {
            "labels": {"batch.kubernetes.io/job-name": "job"},
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "job-uid", "controller": True}
            ],
        },
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


def evicted(phase: str = "Failed") -> dict[str, Any]:
    """A pod that is taken away, or was."""
    pod = a_pod("Running") if phase == "Running" else a_pod(phase, exitCode=143)
    condition = {"type": "DisruptionTarget", "status": "True", "message": "Eviction API: evicting"}
    pod["status"]["conditions"] = [condition]
    pod["metadata"] |= {"name": "tune-1", "creationTimestamp": "2026-11-24T10:00:00Z"}
    return pod


def born(time: str) -> dict[str, Any]:
    """Metadata of a pod that was made at this time of the day."""
    return {**a_pod()["metadata"], "creationTimestamp": f"2026-11-24T{time}:00Z"}


def deleted(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "metadata": pod["metadata"] | {"deletionTimestamp": "2026-11-24T11:00:00Z"}}


def forged() -> dict[str, Any]:
    """Metadata of a pod that somebody made with the labels of ours."""
    return {"labels": a_pod()["metadata"]["labels"]}


def ended_as(reason: str, message: str) -> dict[str, Any]:
    """A pod that the kubelet ended without its containers having a say."""
    pod = a_pod("Failed")
    pod["status"] = {"phase": "Failed", "reason": reason, "message": message}
    return pod


def stopped_for(reason: str, message: str) -> dict[str, Any]:
    """A pod that the kubelet ended, whose stage stopped after a checkpoint."""
    pod = a_pod("Failed", exitCode=85, message=PREEMPTED)
    pod["status"] |= {"reason": reason, "message": message}
    return pod


def of_node(index: int, pod: dict[str, Any], name: str = "") -> dict[str, Any]:
    """The pod of a node of a training that has several."""
    labels = pod["metadata"]["labels"] | {"batch.kubernetes.io/job-completion-index": str(index)}
    metadata = {"name": name or f"job-{index}", **pod["metadata"], "labels": labels}
    return {**pod, "metadata": metadata}


GOOD = encode_result(result("train"))
BAD = encode_error(StageError(Reason.LOSS_DIVERGED, "at step 7"))
PREEMPTED = encode_error(StageError(Reason.PREEMPTED, "stopped after a checkpoint"))
LOST = encode_error(StageError(Reason.RANK_LOST, "node 1 of 2 does not answer"))
LOSES = a_pod("Failed", exitCode=75, message=LOST)
LEAVES = a_pod("Failed", exitCode=85, message=PREEMPTED)

CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, str | None]] = {
    "a Job with a running pod is active": (a_job(), [a_pod()], "active", None),
    "a Job that its queue holds is queued": (a_job() | {"spec": {"suspend": True}}, [], "queued", None),
    "a Job that is deleted is leaving": (
        {**a_job("Failed"), "metadata": a_job()["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        [],
        "leaving",
        "Internal",
    ),
    "a result in the termination message is the outcome": (
        a_job("Complete"),
        [a_pod("Succeeded", exitCode=0, message=GOOD)],
        "complete",
        "TrainResult",
    ),
    "a Complete Job whose pod is gone has lost its result": (a_job("Complete"), [], "complete", None),
    "a Complete Job with unreadable words has lost its result": (
        a_job("Complete"),
        [a_pod("Succeeded", exitCode=0, message="{")],
        "complete",
        None,
    ),
    "a failure in the termination message is the outcome": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=64, message=BAD)],
        "failed",
        "LossDiverged",
    ),
    "a failure without a word is Internal": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=1)],
        "failed",
        "Internal",
    ),
    "a failure without a word by SIGBUS tells of a file that can't be read": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=135)],
        "failed",
        "DataUnreadable",
    ),
    "a result with a failed Job is not believed": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=1, message=GOOD)],
        "failed",
        "Internal",
    ),
    "a pod killed for its memory says so": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=137, reason="OOMKilled")],
        "failed",
        "HostOutOfMemory",
    ),
    "a deadline says so": (a_job("Failed", reason="DeadlineExceeded"), [], "failed", "DeadlineExceeded"),
    "an evicted pod was preempted": (a_job("Failed"), [evicted()], "failed", "Preempted"),
    "a deadline counts for more than what the pod said when it was asked to leave": (
        a_job("Failed", reason="DeadlineExceeded"),
        [a_pod("Failed", exitCode=85, message=PREEMPTED)],
        "failed",
        "DeadlineExceeded",
    ),
    "a pod that was deleted before it had a say was preempted": (
        a_job("Failed"),
        [deleted(a_pod("Failed", exitCode=137))],
        "failed",
        "Preempted",
    ),
    "the newest pod counts even where it has no words": (
        a_job("Failed"),
        [
            {**a_pod("Failed", exitCode=85, message=PREEMPTED), "metadata": born("10:00")},
            {**a_pod("Failed", exitCode=137, reason="OOMKilled"), "metadata": born("11:00")},
        ],
        "failed",
        "HostOutOfMemory",
    ),
    "a pod that only looks like one of the Job's has no say": (
        a_job("Complete"),
        [{**a_pod("Succeeded", exitCode=0, message=GOOD), "metadata": forged()}],
        "complete",
        None,
    ),
    "a pod of an earlier Job of the name has no say": (
        a_job("Complete") | {"metadata": a_job()["metadata"] | {"uid": "uid-of-the-next"}},
        [a_pod("Succeeded", exitCode=0, message=GOOD)],
        "complete",
        None,
    ),
    "exit code 85 without words was a stop after a checkpoint": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=85)],
        "failed",
        "Preempted",
    ),
    "a Job that was preempted and then succeeded has its result": (
        a_job("Complete"),
        [
            {**a_pod("Failed", exitCode=85, message=PREEMPTED), "metadata": born("10:00")},
            {**a_pod("Succeeded", exitCode=0, message=GOOD), "metadata": born("11:00")},
        ],
        "complete",
        "TrainResult",
    ),
    "of two pods that failed the newer one counts": (
        a_job("Failed"),
        [
            {**a_pod("Failed", exitCode=85, message=PREEMPTED), "metadata": born("10:00")},
            {**a_pod("Failed", exitCode=64, message=BAD), "metadata": born("11:00")},
        ],
        "failed",
        "LossDiverged",
    ),
    "a pod evicted for filling its scratch directory says so": (
        a_job("Failed"),
        [ended_as("Evicted", 'Usage of EmptyDir volume "scratch" exceeds the limit "1Gi".')],
        "failed",
        "DiskFull",
    ),
    "a pod that was asked to stop because it exceeds a limit was not preempted": (
        a_job("Failed"),
        [
            stopped_for(
                "Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
            )
        ],
        "failed",
        "DiskFull",
    ),
    "a pod evicted because its node is short of something was preempted": (
        a_job("Failed"),
        [ended_as("Evicted", "The node was low on resource: memory.")],
        "failed",
        "Preempted",
    ),
    "of two nodes the first tells the result": (
        a_job("Complete"),
        [
            of_node(1, a_pod("Succeeded", exitCode=0, message="{")),
            of_node(0, a_pod("Succeeded", exitCode=0, message=GOOD)),
        ],
        "complete",
        "TrainResult",
    ),
    "of two nodes the one that lost the other has not the cause": (
        a_job("Failed", reason="PodFailurePolicy"),
        [of_node(0, LOSES), of_node(1, a_pod("Failed", exitCode=137, reason="OOMKilled"))],
        "failed",
        "HostOutOfMemory",
    ),
    "nor has the one that was asked to leave because the other had failed": (
        a_job("Failed"),
        [of_node(0, deleted(LEAVES)), of_node(1, a_pod("Failed", exitCode=64, message=BAD))],
        "failed",
        "LossDiverged",
    ),
    "a node that ends without a word is lost, though the other was asked to leave then": (
        a_job("Failed"),
        [of_node(0, deleted(LEAVES)), of_node(1, a_pod("Failed", exitCode=137))],
        "failed",
        "RankLost",
    ),
    "a node that is taken away is the cause where the other has lost it": (
        a_job("Failed", reason="PodFailurePolicy"),
        [of_node(0, LOSES), of_node(1, evicted())],
        "failed",
        "Preempted",
    ),
    "two nodes that stopped after a checkpoint were preempted": (
        a_job("Failed"),
        [of_node(0, LEAVES), of_node(1, LEAVES)],
        "failed",
        "Preempted",
    ),
    "nodes that lost each other count for less than a deadline": (
        a_job("Failed", reason="DeadlineExceeded"),
        [of_node(0, LOSES), of_node(1, LOSES)],
        "failed",
        "DeadlineExceeded",
    ),
    "of each node the newest pod counts": (
        a_job("Failed"),
        [
            of_node(0, LOSES | {"metadata": born("11:00")}),
            of_node(1, LOSES | {"metadata": born("11:00")}),
            of_node(1, a_pod("Failed", exitCode=64, message=BAD) | {"metadata": born("10:00")}),
        ],
        "failed",
        "RankLost",
    ),
    "a pod that its node refused finds no place": (
        a_job("Failed"),
        [ended_as("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu")],
        "failed",
        "Unschedulable",
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_observation(sentence: str) -> None:
    job, pods, state, outcome = CASES[sentence]
    seen = observe("uid-1", [job], pods, [], NOW).jobs["job"]
    name = str(seen.outcome.reason) if isinstance(seen.outcome, StageError) else type(seen.outcome).__name__
    assert (seen.state, name) == (state, outcome or "NoneType")


LOG = """10:00 INFO lorafinetune: reading s3://bucket/rows
Traceback (most recent call last):
ImportError: libcudart.so.12: cannot open shared object file
"""
WITHOUT_A_WORD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "the exit code, and the end of the log": (
        [a_pod("Failed", exitCode=139, message=LOG)],
        f"exit code 139; its log ends:\n{LOG.strip()}",
    ),
    "the exit code alone where the log is empty": ([a_pod("Failed", exitCode=137)], "exit code 137"),
    "what the Job says where there is no pod": ([], "no pod was made"),
}


@pytest.mark.parametrize("sentence", WITHOUT_A_WORD)
def test_a_stage_that_ended_without_a_word_is_told_with(sentence: str) -> None:
    pods, said = WITHOUT_A_WORD[sentence]
    outcome = (
        observe("uid-1", [a_job("Failed", message="no pod was made")], pods, [], NOW).jobs["job"].outcome
    )
    assert isinstance(outcome, StageError)
    assert (outcome.reason, outcome.message) == (Reason.INTERNAL, f"the stage ended without a word: {said}")


def lost_after(step: int | None) -> dict[str, Any]:
    failure = StageError(Reason.RANK_LOST, "node 1 of 2 does not answer", checkpoint=step)
    return a_pod("Failed", exitCode=75, message=encode_error(failure))


KILLED = a_pod("Failed", exitCode=137, reason="OOMKilled")
CHECKPOINTS: dict[str, tuple[list[dict[str, Any]], int | None]] = {
    "the pod's": ([lost_after(30)], 30),
    "that of a node which has not the cause": ([of_node(0, lost_after(30)), of_node(1, KILLED)], 30),
    "that of the node which knows the newest": (
        [of_node(0, lost_after(20)), of_node(1, lost_after(30)), of_node(2, lost_after(None))],
        30,
    ),
    "none, where no node has told one": ([of_node(0, lost_after(None)), of_node(1, KILLED)], None),
}


@pytest.mark.parametrize("sentence", CHECKPOINTS)
def test_the_last_checkpoint_of_an_attempt_that_failed_is(sentence: str) -> None:
    pods, expected = CHECKPOINTS[sentence]
    outcome = observe("uid-1", [a_job("Failed")], pods, [], NOW).jobs["job"].outcome
    assert isinstance(outcome, StageError)
    assert outcome.checkpoint == expected


def waiting(reason: str, message: str = "", **status: Any) -> dict[str, Any]:
    """A pod whose container waits."""
    pod = a_pod("Pending")
    state = {"waiting": {"reason": reason, "message": message}}
    pod["status"]["containerStatuses"] = [{"image": "registry.example/train:1", "state": state}]
    pod["status"] |= status
    return pod


def unschedulable() -> dict[str, Any]:
    pod = a_pod("Pending")
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod["status"] = {"phase": "Pending", "conditions": [condition]}
    return pod


def leaving_since(**time: float) -> dict[str, Any]:
    pod = a_pod()
    pod["metadata"]["deletionTimestamp"] = (NOW - timedelta(**time)).isoformat()
    pod["spec"] = {"nodeName": "node-7"}
    return pod


def on_a_node(*, ready: str, containers: bool) -> dict[str, Any]:
    """A pod that runs; `ready` is said of the pod, `containers` of each of its containers."""
    pod = a_pod()
    pod["spec"] = {"nodeName": "node-7"}
    pod["status"]["conditions"] = [
        {"type": "Ready", "status": ready},
        {"type": "ContainersReady", "status": str(containers)},
    ]
    return pod


def warning(reason: str, message: str, about: str = "job-uid", at: str = "11:00") -> dict[str, Any]:
    return {
        "involvedObject": {"uid": about},
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-11-24T{at}:00Z",
    }


QUOTA = (
    'Error creating: pods "tune-train-x7k2p" is forbidden: exceeded quota: gpus, requested: '
    "requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=8, limited: requests.nvidia.com/gpu=8"
)
SECURITY = (
    'Error creating: pods "tune-train-x7k2p" is forbidden: violates PodSecurity "restricted:latest": '
    "unrestricted capabilities"
)
ACCOUNT = (
    'Error creating: pods "tune-train-x7k2p" is forbidden: error looking up service account team-a/tuner: '
    'serviceaccount "tuner" not found'
)
BACK_OFF = (
    'Back-off pulling image "registry.example/train:1": ErrImagePull: failed to resolve reference '
    '"registry.example/train:1": not found'
)

EVICTION = "the pod tune-1 was evicted or preempted: Eviction API: evicting"

TROUBLE: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str | None, str]] = {
    "a pod that runs has no trouble": ([a_pod()], [], None, ""),
    "a pod whose container is being created has none": ([waiting("ContainerCreating")], [], None, ""),
    "an image that can't be pulled is named, with the registry's words": (
        [waiting("ErrImagePull", 'failed to resolve reference "registry.example/train:1": not found')],
        [],
        "ImagePull",
        "the image registry.example/train:1 can't be pulled: failed to resolve reference "
        '"registry.example/train:1": not found',
    ),
    "a kubelet that backs off says the same": (
        [waiting("ImagePullBackOff", BACK_OFF)],
        [],
        "ImagePull",
        "the image registry.example/train:1 can't be pulled: failed to resolve reference "
        '"registry.example/train:1": not found',
    ),
    "a Secret that is missing names itself": (
        [waiting("CreateContainerConfigError", 'secret "s3" not found')],
        [],
        "SecretMissing",
        'secret "s3" not found',
    ),
    "a key that is missing in a Secret names itself": (
        [waiting("CreateContainerConfigError", "couldn't find key token in Secret team-a/hub")],
        [],
        "SecretMissing",
        "couldn't find key token in Secret team-a/hub",
    ),
    "a kubelet that has not read the Secret yet is no trouble": (
        [
            waiting(
                "CreateContainerConfigError",
                "failed to sync secret cache: timed out waiting for the condition",
            )
        ],
        [],
        None,
        "",
    ),
    "a container that can't be made is told": (
        [waiting("CreateContainerError", "failed to generate spec: no such device")],
        [],
        "AdmissionDenied",
        "failed to generate spec: no such device",
    ),
    "a pod that no node can take says what is short": (
        [unschedulable()],
        [],
        "Unschedulable",
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    ),
    "a pod of a node that went silent is told before anything is done about it": (
        [on_a_node(ready="False", containers=True)],
        [],
        "NodeLost",
        "the node node-7 does not answer",
    ),
    "a pod whose container just began is no trouble": (
        [on_a_node(ready="False", containers=False)],
        [],
        None,
        "",
    ),
    "a pod of a node that answers has no trouble": ([on_a_node(ready="True", containers=True)], [], None, ""),
    "a pod that is on its way out has no trouble": ([leaving_since(seconds=10)], [], None, ""),
    "a pod that does not go is on a node that is lost": (
        [leaving_since(seconds=61)],
        [],
        "NodeLost",
        "the pod does not end: the node node-7 does not answer",
    ),
    "a pod that is being evicted is told, and why": ([evicted("Running")], [], "Preempted", EVICTION),
    "a pod that was evicted is told until another replaces it": ([evicted()], [], "Preempted", EVICTION),
    "a pod that was replaced is told no more": (
        [{**a_pod("Pending"), "metadata": born("11:00")}, evicted()],
        [],
        None,
        "",
    ),
    "a pod that ended well before it was evicted is none that was": ([evicted("Succeeded")], [], None, ""),
    "an evicted pod that does not go is on a node that is lost": (
        [{**evicted("Running"), **{n: leaving_since(seconds=61)[n] for n in ("metadata", "spec")}}],
        [],
        "NodeLost",
        "the pod does not end: the node node-7 does not answer",
    ),
    "what keeps an evicted pod from being replaced counts for more": (
        [evicted()],
        [warning("FailedCreate", ACCOUNT)],
        "AdmissionDenied",
        "the ServiceAccount tuner does not exist",
    ),
    "a quota that is used up is told by the Job's events": (
        [],
        [warning("FailedCreate", QUOTA)],
        "QuotaExceeded",
        "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=8, "
        "limited: requests.nvidia.com/gpu=8",
    ),
    "a policy that refuses the pod is told by the Job's events": (
        [],
        [warning("FailedCreate", SECURITY)],
        "AdmissionDenied",
        'violates PodSecurity "restricted:latest": unrestricted capabilities',
    ),
    "a refusal that goes on and on is cut": (
        [],
        [warning("FailedCreate", "Error creating: " + "no\n" * 300)],
        "AdmissionDenied",
        ("no " * 300)[:500] + "…",
    ),
    "a ServiceAccount that is missing is named": (
        [],
        [warning("FailedCreate", ACCOUNT)],
        "AdmissionDenied",
        "the ServiceAccount tuner does not exist",
    ),
    "the newest warning counts": (
        [],
        [warning("FailedCreate", ACCOUNT, at="10:00"), warning("FailedCreate", SECURITY, at="12:00")],
        "AdmissionDenied",
        'violates PodSecurity "restricted:latest": unrestricted capabilities',
    ),
    "a warning about another Job is nothing to us": ([], [warning("FailedCreate", QUOTA, "x")], None, ""),
    "a warning is over once the pod is there": ([a_pod()], [warning("FailedCreate", QUOTA)], None, ""),
    "a volume that can't be mounted is told by the pod's events": (
        [{**waiting("ContainerCreating"), "metadata": {**a_pod()["metadata"], "uid": "pod-uid"}}],
        [warning("FailedMount", "MountVolume.SetUp failed for volume token", "pod-uid")],
        "AdmissionDenied",
        "MountVolume.SetUp failed for volume token",
    ),
    "a pod that failed is no trouble to the one that replaced it": (
        [a_pod("Failed", exitCode=85), a_pod()],
        [],
        None,
        "",
    ),
}


@pytest.mark.parametrize("sentence", TROUBLE)
def test_trouble(sentence: str) -> None:
    pods, events, reason, message = TROUBLE[sentence]
    trouble = observe("uid-1", [a_job()], pods, events, NOW).jobs["job"].trouble
    told = (None, "") if trouble is None else (str(trouble.reason), trouble.message)
    assert told == (reason, message)


def test_a_job_that_its_queue_holds_is_queued_and_no_more() -> None:
    queued = a_job() | {"spec": {"suspend": True}}
    assert observe("uid-1", [queued], [evicted("Running")], [], NOW).jobs["job"].trouble is None


def test_annotations_are_read() -> None:
    seen = observe("uid-1", [a_job()], [], [], NOW).jobs["job"]
    assert (seen.attempt, seen.generation, seen.stage, seen.resource) == (2, 3, "train", "tune")


def test_pods_that_have_not_ended_are_counted() -> None:
    pods = [a_pod(), a_pod("Pending"), a_pod("Succeeded", exitCode=0), a_pod("Failed", exitCode=1)]
    assert observe("uid-1", [a_job()], pods, [], NOW).jobs["job"].pods == 2


def test_a_job_of_another_resource_is_kept_apart() -> None:
    seen = observe("uid-2", [a_job()], [a_pod()], [], NOW)
    assert (list(seen.jobs), list(seen.others), seen.others["job"].resource) == ([], ["job"], "tune")


def test_a_pod_that_outlives_its_job_is_seen() -> None:
    pods = [a_pod(), a_pod("Succeeded", exitCode=0)]
    assert observe("uid-1", [], pods, [], NOW).left_behind == {"job": 1}


def test_a_pod_that_no_job_controls_keeps_none_from_being_made() -> None:
    assert observe("uid-1", [], [a_pod() | {"metadata": forged()}], [], NOW).left_behind == {}


WORDLESS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], bool]] = {
    "it is done, and no pod is known": (a_job("Complete"), [], True),
    "it is done, and its pod seems to run": (a_job("Complete"), [a_pod()], True),
    "it is done, and its pod has left no result": (a_job("Complete"), [a_pod("Succeeded", exitCode=0)], True),
    "it is done, and its pod has left a result": (
        a_job("Complete"),
        [a_pod("Succeeded", exitCode=0, message=GOOD)],
        False,
    ),
    "it has failed, and no pod is known": (a_job("Failed"), [], True),
    "it has failed, and its pod seems to run": (a_job("Failed"), [a_pod()], True),
    "it has failed, and its pod has ended": (a_job("Failed"), [a_pod("Failed", exitCode=137)], False),
    "it has not ended": (a_job(), [a_pod()], False),
}


@pytest.mark.parametrize("sentence", WORDLESS)
def test_a_job_is_without_a_word_or_not_where(sentence: str) -> None:
    job, pods, wordless = WORDLESS[sentence]
    assert observe("uid-1", [job], pods, [], NOW).jobs["job"].wordless is wordless

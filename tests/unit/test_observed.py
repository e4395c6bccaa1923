"""Job and Pod objects → what has happened."""

from typing import Any

import pytest

from builders import result
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, encode_error, encode_result
from lorafinetune.core.observed import observe


def a_job(condition: str | None = None, **extra: Any) -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", **extra}] if condition else []
    return {
        "metadata": {
            "name": "job",
            "labels": {"lorafinetune.dev/stage": "train"},
            "annotations": {"lorafinetune.dev/attempt": "2", "lorafinetune.dev/generation": "3"},
        },
        "spec": {},
        "status": {"conditions": conditions},
    }


def a_pod(phase: str = "Running", **terminated: Any) -> dict[str, Any]:
    state = {"terminated": terminated} if terminated else {"running": {}}
    return {
        "metadata": {"labels": {"batch.kubernetes.io/job-name": "job"}},
        "status": {"phase": phase, "containerStatuses": [{"state": state}]},
    }


def evicted() -> dict[str, Any]:
    pod = a_pod("Failed", exitCode=143)
    pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    return pod


GOOD = encode_result(result("train"))
BAD = encode_error(StageError(Reason.LOSS_DIVERGED, "at step 7"))

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
    "exit code 85 without words was a stop after a checkpoint": (
        a_job("Failed"),
        [a_pod("Failed", exitCode=85)],
        "failed",
        "Preempted",
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_observation(sentence: str) -> None:
    job, pods, state, outcome = CASES[sentence]
    seen = observe([job], pods).jobs["job"]
    name = str(seen.outcome.reason) if isinstance(seen.outcome, StageError) else type(seen.outcome).__name__
    assert (seen.state, name) == (state, outcome or "NoneType")


def test_annotations_are_read() -> None:
    seen = observe([a_job()], []).jobs["job"]
    assert (seen.attempt, seen.generation, seen.stage) == (2, 3, "train")


def test_pods_that_have_not_ended_are_counted() -> None:
    pods = [a_pod(), a_pod("Pending"), a_pod("Succeeded", exitCode=0), a_pod("Failed", exitCode=1)]
    assert observe([a_job()], pods).jobs["job"].pods == 2

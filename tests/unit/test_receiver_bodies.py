"""What a post may say."""

import json
from typing import Any

import pytest

from lorafinetune.api.status import GpuSeconds, TrainingStatus
from lorafinetune.contract.outcome import Progress
from lorafinetune.shell.receiver.bodies import Update, decode

MOVING = Progress(
    stage="train",
    activity="训练",
    done=42,
    total=100,
    rate="0.52",
    eta_seconds=112,
    training=TrainingStatus(step=42, total_steps=100, loss="1.5"),
    checkpoint_step=40,
    gpu_seconds=GpuSeconds(held=90, training=60, evaluating=10),
)

BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "EOF"),
    "no JSON": (b"{'stage': 1}", "key must be a string"),
    "half an object": (b'{"stage": "train"', "EOF"),
    "no text": (b'{"stage": "tr\xff"}', "invalid unicode"),
    "too many levels": (b"[" * 60_000, "recursion limit"),
    "a list": (b"[]", "the body: Input should be an object"),
    "no stage": (b"{}", "stage: Field required"),
    "another stage": (b'{"stage": "sell"}', "stage: Input should be"),
    "an unknown field": (b'{"stage": "train", "colour": "red"}', "colour: Extra inputs"),
    "a number as text": (b'{"stage": "train", "done": "1"}', "done: Input should be a valid integer"),
    "a negative number": (b'{"stage": "train", "done": -1}', "done: Input should be greater"),
    "no number": (b'{"stage": "train", "done": NaN}', "expected value"),
    "a huge number": (b'{"stage": "train", "done": 1' + b"0" * 400 + b"}", "done: Input should be less"),
    "a step that no status can hold": (
        b'{"stage": "train", "checkpointStep": 9007199254740992}',
        "checkpointStep",
    ),
    "an end that no column can hold": (b'{"stage": "train", "etaSeconds": 9007199254740992}', "etaSeconds"),
    "a long text": (b'{"stage": "train", "activity": "' + b"a" * 300 + b'"}', "activity: String should have"),
    "what moves a terminal's cursor": (b'{"stage": "train", "activity": "\\u001b[2J"}', "must be printable"),
    "too many points": (
        json.dumps({"stage": "train", "training": {"recent": [{"step": 1, "loss": "1"}] * 33}}).encode(),
        "training.recent: Tuple should have at most 32",
    ),
    "both bodies at once": (b'{"stage": "train", "trainerStatus": []}', "trainerStatus: Input should be"),
    "a percentage above a hundred": (b'{"trainerStatus": {"progressPercentage": 101}}', "progressPercentage"),
    "a percentage as text": (b'{"trainerStatus": {"progressPercentage": "42"}}', "progressPercentage"),
    "too many metrics": (
        json.dumps({"trainerStatus": {"metrics": [{"name": "a", "value": "1"}] * 257}}).encode(),
        "trainerStatus.metrics: List should have at most 256",
    ),
    "a long metric": (
        json.dumps({"trainerStatus": {"metrics": [{"name": "a", "value": "1" * 65}]}}).encode(),
        "trainerStatus.metrics.0.value: String should have at most 64",
    ),
}


@pytest.mark.parametrize("sentence", BAD)
def test_refuses(sentence: str) -> None:
    body, message = BAD[sentence]
    with pytest.raises(ValueError, match=message) as refused:
        decode(body)
    assert len(str(refused.value)) <= 500


def test_our_own_progress_comes_through_whole() -> None:
    assert decode(MOVING.model_dump_json(by_alias=True, exclude_none=True).encode()) == MOVING


def kubeflow(metrics: dict[str, Any], **fields: Any) -> Progress:
    """What becomes of a `trainerStatus`. metrics: by name."""
    listed = [{"name": name, "value": str(value)} for name, value in metrics.items()]
    status = {"lastUpdatedTime": "2026-01-31T12:00:00.123456+00:00", "metrics": listed} | fields
    found = decode(json.dumps({"trainerStatus": status}).encode())
    assert isinstance(found, Update)
    progress = found.progress()
    assert progress is not None
    assert Progress.decode(progress.encode()) == progress, "what we make of it is what we would accept"
    return progress


def test_kubeflows_status_is_counted_in_steps() -> None:
    metrics = {"current_step": 42, "total_steps": 100, "current_epoch": 1.25, "loss": 2.0794415416798357}
    found = kubeflow(metrics, progressPercentage=41, estimatedRemainingSeconds=112)
    training = TrainingStatus(step=42, total_steps=100, epoch="1.25", loss="2.079442")
    expected = Progress(
        stage="train",
        activity="training",
        done=42,
        total=100,
        unit="steps",
        eta_seconds=112,
        training=training,
    )
    assert found == expected


COUNTS: dict[str, tuple[dict[str, Any], int, tuple[int, int, str]]] = {
    "the first post names the steps in all": ({"total_steps": 50}, 0, (0, 50, "steps")),
    "the percentage stands in for the step": ({"total_steps": 50}, 10, (5, 50, "steps")),
    "without steps it is in percent": ({"train_loss": 1.5}, 100, (100, 100, "percent")),
    "steps that are no numbers are no steps": ({"total_steps": "many"}, 10, (10, 100, "percent")),
    "negative steps are no steps": ({"total_steps": -5}, 10, (10, 100, "percent")),
    "huge steps are no steps": ({"total_steps": 10**30}, 10, (10, 100, "percent")),
    "other scripts' digits are no steps": ({"total_steps": "٥٠"}, 10, (10, 100, "percent")),
}


@pytest.mark.parametrize("sentence", COUNTS)
def test_kubeflows_count(sentence: str) -> None:
    metrics, percent, expected = COUNTS[sentence]
    found = kubeflow(metrics, progressPercentage=percent)
    assert (found.done, found.total, found.unit) == expected


LOSSES = {"1e-05": "0.00001", "0.0": "0", "1e-30": "0", "10": "10", "nan": None, "inf": None, "-1": None}


@pytest.mark.parametrize("written", [*LOSSES, "1e400", "1e9", "high"])
def test_kubeflows_loss(written: str) -> None:
    training = kubeflow({"loss": written}).training
    assert training is not None
    assert training.loss == LOSSES.get(written)


def test_kubeflows_unknown_fields_are_passed_over() -> None:
    assert kubeflow({}, progressPercentage=7, colour="red").done == 7


@pytest.mark.parametrize("body", [b'{"trainerStatus": null}'])
def test_an_empty_update_says_nothing(body: bytes) -> None:
    found = decode(body)
    assert isinstance(found, Update)
    assert found.progress() is None

"""What the decoder accepts the API server accepts, and makes the same of it; and the reverse."""

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from apiserver.kube import Answer, created, tried, tried_status
from builders import document
from cluster.apiserver import ApiServer
from lorafinetune.api.codec import InvalidResourceError, decode
from lorafinetune.api.resource import LoRAFineTune
from searching import examples
from strategies import documents, specs, spoiled, statuses

Json = dict[str, Any]


def many(count: int) -> settings:
    return settings(
        max_examples=examples(count),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def holder(served: ApiServer) -> Json:
    """A stored resource, whose status is replaced."""
    stored: Json = created(served, document(name="holder", namespace="default"))
    return stored


def decoded(value: Json) -> LoRAFineTune | None:
    """Nothing, if it is refused."""
    try:
        return decode(value)
    except InvalidResourceError:
        return None


def verdicts(ours: LoRAFineTune | None, theirs: Answer) -> tuple[str, str]:
    """Both verdicts, in words that a failing test shows."""
    return "refused" if ours is None else "accepted", "accepted" if theirs.accepted else "refused"


POINT_IN_A_RULE = "invalid data, expected int, got float64"
"""What the server says of a whole number with a point where a rule reads it; elsewhere it takes one."""


@many(150)
@given(value=documents(specs()))
def test_both_accept_a_valid_spec_and_make_the_same_of_it(served: ApiServer, value: Json) -> None:
    ours, theirs = decode(value), tried(served, value)
    assert theirs.accepted, theirs.message
    assert theirs.body["spec"] == ours.spec.encode()


@many(400)
@given(value=documents(spoiled(specs())))
def test_both_say_the_same_of_a_spec_with_a_slip(served: ApiServer, value: Json) -> None:
    ours, theirs = decoded(value), tried(served, value)
    assume(theirs.accepted or POINT_IN_A_RULE not in theirs.message)
    mine, its = verdicts(ours, theirs)
    assert mine == its
    if ours:
        assert theirs.body["spec"] == ours.spec.encode()


DATA = {"source": "s3://data/rows.json"}
TIME = {"type": "Ready", "status": "True", "reason": "Done", "lastTransitionTime": "2026-01-31T12:00:00Z"}

SPEC_SLIPS: dict[str, tuple[Json, str]] = {
    "an unknown field": ({"training": {"bogus": 1}}, "refused"),
    "an unknown field in a list": ({"datasets": [DATA | {"bogus": 1}]}, "refused"),
    "a required field missing": ({"storage": {"uri": None}}, "refused"),
    "a null in a list": ({"datasets": [DATA, None]}, "refused"),
    "a whole number with a point": ({"training": {"seed": 7.0}}, "accepted"),
    "a whole number with an exponent": ({"training": {"checkpoint": {"every": 1e2}}}, "accepted"),
    "a negative nothing": ({"training": {"seed": -0.0}}, "accepted"),
    "a number and a half": ({"training": {"seed": 1.5}}, "refused"),
    "a number of more than 64 bits": ({"training": {"seed": 2**70}}, "refused"),
    "a number just above its bound": ({"training": {"lora": {"rank": 1025}}}, "refused"),
    "a number just below its bound": ({"training": {"lora": {"rank": 0}}}, "refused"),
    "a boolean for a number": ({"training": {"seed": True}}, "refused"),
    "a number for a boolean": ({"suspend": 0}, "refused"),
    "a boolean for a string": ({"datasets": [DATA | {"system": True}]}, "refused"),
    "a number for a string": ({"training": {"epochs": 3}}, "refused"),
    "a string for a number": ({"training": {"seed": "3"}}, "refused"),
    "a string for a number or a word": ({"training": {"checkpoint": {"every": "3"}}}, "refused"),
    "a boolean for a number or a word": ({"training": {"checkpoint": {"every": False}}}, "refused"),
    "an object for a list": ({"datasets": {}}, "refused"),
    "an option in capitals": ({"training": {"scheduler": "Cosine"}}, "refused"),
    "a text of the greatest length": ({"datasets": [DATA | {"system": "é" * 8192}]}, "accepted"),
    "a text one letter longer": ({"datasets": [DATA | {"system": "é" * 8193}]}, "refused"),
    "an empty text": ({"datasets": [DATA | {"system": ""}]}, "refused"),
    "a newline after a pattern": ({"storage": {"uri": "s3://bucket/runs\n"}}, "refused"),
    "a share of nine": ({"training": {"warmupRatio": "9e-0"}}, "refused"),
    "an empty list": ({"datasets": []}, "refused"),
    "a list one item too long": ({"datasets": [DATA] * 33}, "refused"),
    "a map one entry too large": ({"training": {"extraArgs": {f"a{n}": "" for n in range(33)}}}, "refused"),
    "two items of one name": ({"connections": [{"name": "a"}, {"name": "store"}, {"name": "a"}]}, "refused"),
    "two equal items of a list without names": ({"datasets": [DATA, DATA]}, "accepted"),
    "a prefix as a dataset": ({"datasets": [{"source": "s3://data/prefix/"}]}, "accepted"),
}


@pytest.mark.parametrize("slip", SPEC_SLIPS)
def test_both_say_the_same_of(slip: str, served: ApiServer) -> None:
    change, verdict = SPEC_SLIPS[slip]
    value = document(change, namespace="default")
    assert verdicts(decoded(value), tried(served, value)) == (verdict, verdict)


NULLS: list[Json] = [
    {"suspend": None},
    {"activeDeadlineSeconds": None},
    {"training": {"epochs": "3", "maxSteps": None, "lora": None, "extraArgs": {"a": None}}},
    {"storage": None},
    {"bogus": None},
]


@pytest.mark.parametrize("change", NULLS, ids=str)
def test_both_say_the_same_of_nulls(change: Json, served: ApiServer) -> None:
    value = document(namespace="default")
    value["spec"] = value["spec"] | change
    ours, theirs = decoded(value), tried(served, value)
    mine, its = verdicts(ours, theirs)
    assert mine == its
    if ours:
        assert theirs.body["spec"] == ours.spec.encode()


STATUS_SLIPS: dict[str, tuple[Json, str]] = {
    "a condition": ({"conditions": [TIME]}, "accepted"),
    "two conditions of one type": ({"conditions": [TIME, TIME]}, "refused"),
    "a day that does not exist": (
        {"conditions": [TIME | {"lastTransitionTime": "2026-02-30T12:00:00Z"}]},
        "refused",
    ),
    "a time in another zone": (
        {"conditions": [TIME | {"lastTransitionTime": "2026-01-31T12:00:00+01:00"}]},
        "refused",
    ),
    "an unknown field": ({"bogus": 1}, "refused"),
    "an unknown stage": ({"stages": [{"name": "publish"}]}, "refused"),
    "the greatest number": ({"gpuSeconds": {"held": 2**53}}, "accepted"),
    "the greatest number with a point": ({"gpuSeconds": {"held": 2.0**53}}, "refused"),
    "the number below it with a point": ({"gpuSeconds": {"held": 2.0**53 - 1}}, "accepted"),
    "a fraction of a number": ({"resumes": 0.5}, "refused"),
    "nothing": ({}, "accepted"),
}


@pytest.mark.parametrize("slip", STATUS_SLIPS)
def test_both_say_the_same_of_a_status_with(slip: str, served: ApiServer, holder: Json) -> None:
    status, verdict = STATUS_SLIPS[slip]
    value = holder | {"status": status}
    assert verdicts(decoded(value), tried_status(served, value)) == (verdict, verdict)


@many(250)
@given(status=spoiled(statuses()))
def test_both_say_the_same_of_a_status_with_a_slip(served: ApiServer, holder: Json, status: Json) -> None:
    value = holder | {"status": status}
    ours, theirs = decoded(value), tried_status(served, value)
    mine, its = verdicts(ours, theirs)
    assert mine == its
    if ours and ours.status:
        assert theirs.body["status"] == ours.status.encode()

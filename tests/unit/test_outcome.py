"""Termination messages: they fit, and they say the same on both sides."""

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builders import artifact, result, sha
from lorafinetune.api.artifacts import Published
from lorafinetune.api.reasons import FACTS, Reason
from lorafinetune.api.safetext import safe
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import STAGES, credential_variable
from lorafinetune.contract.outcome import (
    MAX_MESSAGE_BYTES,
    StageError,
    decode_message,
    encode_error,
    encode_result,
)
from lorafinetune_stages.export.publisher import tellable

UNREADABLE = {
    "nothing": "",
    "half a message": '{"result": {"mod',
    "another stage's result": encode_result(result("export")),
    "neither result nor error": "{}",
    "an unknown reason": '{"error": {"reason": "Gremlins", "message": "x"}}',
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_result_comes_back_as_it_was(stage: StageName) -> None:
    made = result(stage)
    assert decode_message(stage, encode_result(made)) == made


@pytest.mark.parametrize("sentence", UNREADABLE)
def test_unreadable_is_none(sentence: str) -> None:
    assert decode_message("download", UNREADABLE[sentence]) is None


def test_the_largest_download_fits() -> None:
    largest = result("download", datasets=tuple(sha(str(n)) for n in range(32)))
    assert len(encode_result(largest).encode()) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize(("length", "told"), [(60, 8), (512, 3)])
def test_places_of_publishing_are_told_as_far_as_there_is_room(length: int, told: int) -> None:
    places = tuple(Published(uri=f"s3://{n}".ljust(length, "x"), revision="f" * 64) for n in range(8))
    shown = tellable(places)
    assert shown == places[:told]
    merged = artifact("merged").model_copy(update={"uri": "s3://".ljust(1024, "x")})
    assert decode_message("export", encode_result(result("export", published=shown, merged=merged)))


def test_a_result_that_does_not_fit_is_a_bug_and_said_so() -> None:
    with pytest.raises(ValueError, match="does not fit a termination message"):
        encode_result(result("prepare", warnings=("x" * 300,) * 20))


@example(Reason.INTERNAL, "x" * 9000, "y" * 9000)
@example(Reason.INTERNAL, "\x00字" * 4000, "")
@given(st.sampled_from(Reason), st.text(max_size=6000), st.text(max_size=1500))
def test_an_error_always_fits_and_keeps_its_reason(reason: Reason, message: str, hint: str) -> None:
    text = encode_error(StageError(reason, message, hint))
    assert len(text.encode()) <= MAX_MESSAGE_BYTES
    read = decode_message("train", text)
    assert isinstance(read, StageError)
    assert read.reason is reason
    assert safe(message).startswith(read.message.removesuffix("…"))


def test_a_failure_tells_of_the_last_checkpoint() -> None:
    read = decode_message("train", encode_error(StageError(Reason.RANK_LOST, "a rank is gone", checkpoint=7)))
    assert isinstance(read, StageError)
    assert read.checkpoint == 7


def test_every_reason_has_when_hint_and_retry() -> None:
    assert {reason: bool(f.when and f.hint and f.retry) for reason, f in FACTS.items()} == dict.fromkeys(
        Reason, True
    )


@given(*[st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)] * 2)
def test_two_connections_never_share_a_variable(one: str, other: str) -> None:
    same = credential_variable(one, "token") == credential_variable(other, "token")
    assert same == (one == other)


def test_an_error_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(StageError(Reason.INTERNAL, "what", "hint", 3)))  # noqa: S301 - our own
    assert (error.reason, str(error), error.hint, error.checkpoint) == (Reason.INTERNAL, "what", "hint", 3)

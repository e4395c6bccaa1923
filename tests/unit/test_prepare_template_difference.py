"""What is said of two renderings that are not the same, by whoever finds them."""

import json
from typing import Any

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError, decode_message, encode_error
from lorafinetune_stages.prepare.template_difference import Difference, find_difference, mismatch

SAME = "x" * 1000
FAR = Difference(model=f"{SAME}[INST] q", template=f"{SAME}[INST]q", row="datasets[0]: a:7")


def test_the_refusal_shows_both_texts_where_they_part() -> None:
    error = mismatch("mistral", FAR)
    assert error.reason is Reason.TEMPLATE_MISMATCH
    assert error.message.splitlines() == [
        "model.template: mistral was inferred, but does not fit the model at datasets[0]: a:7: "
        f"'{'x' * 34}[INST]q' in place of '{'x' * 34}[INST] q'",
        f"  the model's own template: '{'x' * 294}[INST] q'",
        f"  mistral: '{'x' * 294}[INST]q'",
    ]


def test_a_refusal_in_chinese_fits_a_termination_message() -> None:
    long = "你好" * 4000
    error = mismatch("glm4", Difference(model=f"问{long}", template=f"答{long}", row="r" * 4000))
    told = decode_message("prepare", encode_error(error))
    assert isinstance(told, StageError)
    assert "  glm4: '答你好" in told.message


def test_what_the_report_has_is_found_again() -> None:
    for difference in (FAR, Difference(model="a", template="b")):
        report = json.dumps({"rows": 1, "templateDifferences": difference.encode()})
        assert find_difference(report.encode()) == difference


STRANGE: dict[str, Any] = {
    "no differences": {"templateDifferences": {}},
    "those of tools alone": {"templateDifferences": {"model with tools": "a", "template with tools": "b"}},
    "a text that is none": {"templateDifferences": {"model": 1, "template": "b"}},
    "half a character": {"templateDifferences": {"model": "\ud800", "template": "b"}},
    "a list": [],
}


@pytest.mark.parametrize("sentence", STRANGE)
def test_nothing_is_found_in_a_report_with(sentence: str) -> None:
    assert find_difference(json.dumps(STRANGE[sentence]).encode()) is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000])
def test_nothing_is_found_in_what_is_no_json(data: bytes) -> None:
    assert find_difference(data) is None

"""When the rules of a resource are checked, and when the status tells that they have been."""

from functools import cache
from typing import Any

import pytest

from lorafinetune.api import codec, structural
from lorafinetune.api.codec import InvalidResourceError
from lorafinetune.shell.reader import read
from unit.shell_objects import stored

TOO_LONG = "x" * 41
"""A name that breaks a rule, so that reading tells whether the rules were checked."""

STATUSES: dict[str, tuple[dict[str, Any], bool]] = {
    "nobody has looked": ({}, True),
    "this generation was found good": ({"observedGeneration": 1}, False),
    "an earlier generation was found good": ({"observedGeneration": 0}, True),
    "this generation could not be read": (
        {"observedGeneration": 1, "failure": {"reason": "ConfigInvalid", "message": "m", "hint": "h"}},
        True,
    ),
    "this generation failed later": (
        {"observedGeneration": 1, "failure": {"reason": "ModelGated", "message": "m", "hint": "h"}},
        False,
    ),
}


@pytest.mark.parametrize("sentence", STATUSES)
def test_the_rules_are_checked_where(sentence: str) -> None:
    status, are_checked = STATUSES[sentence]
    given = stored(TOO_LONG, status=status)
    if are_checked:
        with pytest.raises(InvalidResourceError, match="40 characters"):
            read(given)
    else:
        assert read(given).metadata.name == TOO_LONG


def test_once_prepared_no_resource_waits_for_a_rule_to_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = cache(structural._program.__wrapped__)
    monkeypatch.setattr(structural, "_program", compiled)
    codec.prepare()
    before = compiled.cache_info().misses
    assert before
    codec.decode(stored())
    assert compiled.cache_info().misses == before


def test_a_field_that_nobody_knows_is_told_whatever_the_status_says() -> None:
    with pytest.raises(InvalidResourceError, match=r"spec\.novelty"):
        read(stored(status={"observedGeneration": 1}, spec={"novelty": "x"}))

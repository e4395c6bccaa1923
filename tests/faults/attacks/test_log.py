"""A library of a stage that tells the stage's own credentials."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from faults.attacks.babbling import OF_THE_POD, SECRETS, WORDS
from faults.nursery import Nursery, await_end
from lorafinetune.contract.arguments import ARGUMENTS_VARIABLE, MESSAGE_VARIABLE, STORE_DIRECTORY_VARIABLE
from lorafinetune.contract.loglines import LOG_FORMAT
from lorafinetune.contract.outcome import StageError, decode_message
from lorafinetune_stages.credentials import REDACTED
from stages.download_builders import Bench

PROGRAM: Final = "faults.attacks.babbling"
CANARY: Final = "canary"
"""Stands in each of the credentials."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery(PROGRAM) as started:
        yield started


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("sentence", WORDS)
def test_no_credential_is_told_by(sentence: str, form: str, nursery: Nursery, tmp_path: Path) -> None:
    message, log = tmp_path / "message", tmp_path / "log"
    environment = SECRETS | {
        ARGUMENTS_VARIABLE: Bench(tmp_path).arguments().model_dump_json(by_alias=True, exclude_none=True),
        STORE_DIRECTORY_VARIABLE: str(tmp_path),
        MESSAGE_VARIABLE: str(message),
        LOG_FORMAT: form,
    }
    await_end(nursery.start(f"{PROGRAM}:live", [sentence], environment, log))
    assert isinstance(decode_message("download", message.read_text()), StageError)
    told = message.read_text() + log.read_text()
    assert REDACTED in told.replace("that was all, [redacted]", "")
    assert CANARY not in told, told


def test_each_credential_would_be_found() -> None:
    assert [secret for secret in (*SECRETS.values(), OF_THE_POD) if CANARY not in secret] == []

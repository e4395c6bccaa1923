"""Connections whose server is said to be where a cloud tells each machine its credentials."""

from pathlib import Path

import pytest

from faults.attacks.written import Written, written
from hubs.files import Names
from lorafinetune.api.reasons import Reason
from lorafinetune.api.sources import Connection
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.factory import open_store
from stages.download_builders import Bench, hub

METADATA = "169.254.169.254"


class Endpoint(Written):
    endpoint: str


ENDPOINTS = written("endpoints", Endpoint)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Names(metadata_test=[METADATA], both_test=["8.8.8.8", METADATA])
    monkeypatch.setattr("socket.getaddrinfo", known)


@pytest.mark.parametrize("sentence", ENDPOINTS)
def test_no_hub_is(sentence: str, tmp_path: Path) -> None:
    attempt = ENDPOINTS[sentence]
    refusal = Bench(tmp_path, hub(attempt.endpoint)).refusal()
    assert (refusal.reason, attempt.refused in refusal.message) == (Reason.CONFIG_INVALID, True)


@pytest.mark.parametrize("sentence", ENDPOINTS)
def test_no_store_is(sentence: str) -> None:
    attempt = ENDPOINTS[sentence]
    with pytest.raises(StageError) as refused:
        open_store("s3://latest/meta-data", Connection(name="store", endpoint=attempt.endpoint))
    assert (refused.value.reason, attempt.refused in str(refused.value)) == (Reason.CONFIG_INVALID, True)

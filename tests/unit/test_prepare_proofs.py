"""What was proven of a training is found as it was kept, or it is proven again."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from builders import sha
from lorafinetune.api.status import Estimate
from lorafinetune_stages.prepare.proofs import MAX_BYTES, find_estimate, keep_estimate
from lorafinetune_stages.store.directory import DirectoryStore

PREPARED: Final = sha("prepared")
PROOF: Final = sha("proof")
ESTIMATE: Final = Estimate(steps=9, seconds=60, gpu_memory=2**34, disk=1)
AT: Final = f"prepared/{PREPARED}/proven"


def another_digit(data: bytes) -> bytes:
    return data.replace(b"17179869184", b"17179869185")


HARMS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "has another digit": another_digit,
    "is cut": lambda data: data[:-1],
    "is empty": lambda _: b"",
    "is of a version before there were seals": lambda _: ESTIMATE.model_dump_json(by_alias=True).encode(),
    "is no object": lambda _: b"[]",
    "is no JSON that ends": lambda _: b"[" * MAX_BYTES,
    "is larger than any": lambda data: data + b" " * MAX_BYTES,
}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    made = DirectoryStore(tmp_path / "store")
    keep_estimate(PREPARED, PROOF, ESTIMATE, made)
    return made


def test_a_proof_is_found(store: DirectoryStore) -> None:
    assert find_estimate(PREPARED, PROOF, store) == ESTIMATE
    assert find_estimate(PREPARED, sha("another"), store) is None


@pytest.mark.parametrize("sentence", HARMS)
def test_no_proof_is_taken_that(
    sentence: str, store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    whole = store.read(at := f"{AT}/{PROOF}.json") or b""
    harmed = HARMS[sentence](whole)
    assert harmed != whole
    store.write(at, harmed)
    assert find_estimate(PREPARED, PROOF, store) is None
    assert caplog.messages == [f"{store.uri}/{at} is not as it was written here: the training is tried again"]
    keep_estimate(PREPARED, PROOF, ESTIMATE, store)
    assert store.read(at) == whole


def test_no_proof_is_taken_for_another(store: DirectoryStore) -> None:
    store.write(f"{AT}/{sha('another')}.json", store.read(f"{AT}/{PROOF}.json") or b"")
    assert find_estimate(PREPARED, sha("another"), store) is None

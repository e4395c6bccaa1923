"""Several files are copied at once; one that fails ends them all."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.download.copier import WORKERS, Copier
from lorafinetune_stages.hubs import RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store import ignore_progress
from lorafinetune_stages.store.directory import DirectoryStore

ORIGIN = Origin("spec.datasets[0]", "datasets", "hf://owner/data")
CHUNKS = 5000


class Slow:
    """Files of single bytes that come slowly; the file `bad` fails. sent: bytes so far."""

    def __init__(self) -> None:
        self.sent = 0
        self.together = threading.Barrier(WORKERS, timeout=10)

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        self.together.wait()
        if file.path == "bad":
            raise ORIGIN.corrupt("has a bad file")
        for _ in range(file.size):
            self.sent += 1
            time.sleep(0.001)
            yield b"x"


def copier(source: Slow, directory: Path) -> Copier:
    stop = threading.Event()
    return Copier(ORIGIN, source, DirectoryStore(directory), "datasets/k", ignore_progress, stop.wait, stop)


def test_files_move_at_once_and_the_first_failure_ends_the_others(tmp_path: Path) -> None:
    source = Slow()
    files = [RemoteFile("bad", 1), *(RemoteFile(f"good-{n}", CHUNKS) for n in range(WORKERS - 1))]

    with pytest.raises(StageError) as caught:
        copier(source, tmp_path).copy(files)

    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert caught.value.message == "spec.datasets[0].source: hf://owner/data has a bad file"
    assert source.sent < CHUNKS * (WORKERS - 1)
    assert not list(DirectoryStore(tmp_path).list("datasets"))

"""A writer that is killed in the middle leaves nothing that anyone can see."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.naming import RESERVED
from lorafinetune_stages.store.partial import MIN_LEFTOVER_SECONDS

WRITER = """
import sys, time
from pathlib import Path
from lorafinetune_stages.store.directory import DirectoryStore

def stream():
    yield b"x" * 2**20
    sys.stdout.write("halfway")
    sys.stdout.flush()
    time.sleep(60)

DirectoryStore(Path(sys.argv[1])).put(sys.argv[2], stream())
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def kill_halfway(store: DirectoryStore, key: str) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, store.root, key], stdout=subprocess.PIPE)
    assert writer.stdout
    with writer.stdout:
        assert writer.stdout.read(7) == b"halfway"
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(10) == -signal.SIGKILL


def leftovers(store: DirectoryStore) -> Iterator[Path]:
    return (store.root / RESERVED).iterdir()


def test_a_killed_put_leaves_what_was_there_and_its_leftover_goes(store: DirectoryStore) -> None:
    store.write("old", b"old")
    for key in ("old", "new"):
        kill_halfway(store, key)
    assert [entry.key for entry in store.list("")] == ["old"]
    assert store.read("old") == b"old"
    assert store.find("new") is None

    past = time.time() - MIN_LEFTOVER_SECONDS - 1
    assert [path.stat().st_size for path in leftovers(store)] == [2**20, 2**20]
    for path in leftovers(store):
        os.utime(path, (past, past))
    DirectoryStore(store.root).write("new", b"new")
    assert list(leftovers(store)) == []
    assert store.read("new") == b"new"

"""A file on its way to a hub: rewound as clients do it, counted once, and always the manifest's."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from hubs.repository import blob_id as git_id
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.content import MAX_WHOLE_BYTES, Content, blob_id
from lorafinetune_stages.store.manifest import ManifestFile

BODY = bytes(range(256)) * 40
PLACE = "exports/key"


class Opened:
    """A file of the store that counts how often it is opened, and where."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.offsets: list[int] = []

    @contextmanager
    def __call__(self, offset: int) -> Iterator[BinaryIO]:
        self.offsets.append(offset)
        yield io.BytesIO(self.body[offset:])


def manifest_file(body: bytes = BODY) -> ManifestFile:
    return ManifestFile(path="a.bin", size=len(body), sha256=hashlib.sha256(body).hexdigest())


def test_it_is_read_in_one_stream() -> None:
    opened = Opened(BODY)
    with Content(PLACE, manifest_file(), opened) as content:
        assert b"".join(iter(lambda: content.read(1000), b"")) == BODY
        assert content.read() == b""
    assert opened.offsets == [0]


def test_clients_find_its_size_and_read_parts_of_it() -> None:
    with Content(PLACE, manifest_file(), Opened(BODY)) as content:
        assert content.seek(0, io.SEEK_END) == len(BODY)
        assert content.read(1) == b""
        content.seek(5000)
        assert (content.tell(), content.read(10)) == (5000, BODY[5000:5010])
        content.seek(-10, io.SEEK_CUR)
        assert content.read() == BODY[5000:]


def test_progress_counts_a_byte_once_however_often_it_is_sent() -> None:
    counted: list[int] = []
    with Content(PLACE, manifest_file(), Opened(BODY), counted.append) as content:
        for size in (100, 50, len(BODY)):
            content.seek(0)
            content.read(size)
        content.complete()
    assert sum(counted) == len(BODY)
    assert counted[0] == 100


def test_a_file_that_was_there_counts_whole() -> None:
    counted: list[int] = []
    Content(PLACE, manifest_file(), Opened(BODY), counted.append).complete()
    assert counted == [len(BODY)]


DAMAGED = {
    "another byte": BODY[:-1] + b"x",
    "too few bytes": BODY[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_the_last_bytes_of_another_file_are_not_given_away(sentence: str) -> None:
    read: list[bytes] = []
    with (
        Content(PLACE, manifest_file(), Opened(DAMAGED[sentence])) as content,
        pytest.raises(StageError) as refused,
    ):
        read.extend(iter(lambda: content.read(1000), b""))
    assert refused.value.reason is Reason.ARTIFACT_CORRUPT
    assert len(b"".join(read)) < len(BODY)


def test_a_second_reading_is_checked_too() -> None:
    opened = Opened(BODY)
    with Content(PLACE, manifest_file(), opened) as content:
        content.read(500)
        opened.body = BODY[:-1] + b"x"
        content.seek(0)
        with pytest.raises(StageError):
            content.read()


def test_a_large_file_is_never_read_whole() -> None:
    file = ManifestFile(path="a.bin", size=MAX_WHOLE_BYTES + 1, sha256="0" * 64)
    with Content(PLACE, file, Opened(b"")) as content, pytest.raises(StageError) as refused:
        content.read()
    assert refused.value.reason is Reason.HUB_UNAVAILABLE


def test_gits_id_of_a_file() -> None:
    assert blob_id(Content(PLACE, manifest_file(), Opened(BODY))) == git_id(BODY)

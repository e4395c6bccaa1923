"""Streams that break go on, and what they carry is checked while it passes."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubs.repository import safetensors
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.addresses import address_kinds
from lorafinetune_stages.download.safetensors import HeaderError, checked
from lorafinetune_stages.hubs import RemoteFile, Snapshot, TransientError
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.retry import PROGRESS_BYTES, resumed

ORIGIN = Origin("spec.model", "models", "hf://owner/model")
AWAY = ORIGIN.error(Reason.HUB_UNAVAILABLE, "can't be fetched: the hub answers 503")
MIB = 2**20


@dataclass
class Breaking:
    """A source whose streams break after so many bytes, one after the other. offsets: what was asked."""

    content: bytes
    breaks: Sequence[int]
    chunk: int = 1000
    offsets: list[int] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        raise NotImplementedError

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        attempt = len(self.offsets)
        self.offsets.append(offset)
        end = offset + self.breaks[attempt] if attempt < len(self.breaks) else len(self.content)
        for start in range(offset, min(end, len(self.content)), self.chunk):
            yield self.content[start : min(start + self.chunk, end)]
        if end < len(self.content):
            raise TransientError(AWAY)


def fetch(source: Breaking, size: int | None = None) -> tuple[bytes, list[float]]:
    pauses: list[float] = []
    file = RemoteFile("model.safetensors", len(source.content) if size is None else size)
    return b"".join(resumed(ORIGIN, source, file, pauses.append)), pauses


@given(
    content=st.binary(max_size=500),
    breaks=st.lists(st.integers(0, 300), max_size=4),
    chunk=st.integers(1, 100),
)
def test_wherever_a_stream_breaks_the_content_is_whole(content: bytes, breaks: list[int], chunk: int) -> None:
    assert fetch(Breaking(content, breaks, chunk))[0] == content


def test_gives_up_after_five_failures_without_progress() -> None:
    source = Breaking(b"x" * 100, [10, 0, 0, 0, 0])

    with pytest.raises(StageError) as caught:
        fetch(source)

    assert caught.value is AWAY
    assert source.offsets == [0, 10, 10, 10, 10]


def test_does_not_give_up_while_there_is_progress() -> None:
    source = Breaking(bytes(20 * MIB), [PROGRESS_BYTES] * 19, chunk=MIB)

    assert len(fetch(source)[0]) == 20 * MIB
    assert fetch(Breaking(bytes(20 * MIB), [PROGRESS_BYTES] * 19, chunk=MIB))[1] == [1.0] * 19


def test_a_source_that_sends_too_much_is_stopped() -> None:
    with pytest.raises(StageError) as caught:
        fetch(Breaking(b"x" * 100, []), size=99)

    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert caught.value.message == (
        "spec.model.source: hf://owner/model sends more than the 99 bytes of model.safetensors"
    )


def test_a_source_that_keeps_ending_early_is_corrupt() -> None:
    with pytest.raises(StageError) as caught:
        fetch(Breaking(b"x" * 99, []), size=100)

    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert caught.value.message == (
        "spec.model.source: hf://owner/model ends model.safetensors after 99 of 100 bytes"
    )


def in_chunks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@given(
    counts=st.dictionaries(st.text("abc.", min_size=1), st.integers(0, 20), max_size=5),
    chunk=st.integers(1, 99),
)
def test_a_good_safetensors_file_passes_unchanged(counts: dict[str, int], chunk: int) -> None:
    content = safetensors(**counts)

    assert b"".join(checked(in_chunks(content, chunk), len(content))) == content


@given(cut=st.integers(1, 500), chunk=st.integers(1, 99))
def test_a_cut_safetensors_file_does_not_pass(cut: int, chunk: int) -> None:
    content = safetensors(first=50, second=80)[:-cut]

    with pytest.raises(HeaderError):
        b"".join(checked(in_chunks(content, chunk), len(content)))


@given(content=st.binary(max_size=200), chunk=st.integers(1, 99))
def test_any_bytes_pass_or_are_refused(content: bytes, chunk: int) -> None:
    with suppress(HeaderError):
        assert b"".join(checked(in_chunks(content, chunk), len(content))) == content


def test_a_header_that_is_too_large_is_refused_at_its_first_bytes() -> None:
    chunks = iter([b"\xff" * 8, b"never asked for"])

    with pytest.raises(HeaderError):
        next(iter(checked(chunks, 2**40)))

    assert next(chunks) == b"never asked for"


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("::1", "loopback"),
        ("0x7f.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("100.100.100.200", "link-local"),
        ("fd00:ec2::254", "link-local"),
        ("0.0.0.0", "private"),  # noqa: S104  # nothing is bound to it
        ("::ffff:169.254.169.254", "link-local"),
        ("1.1.1.1", "public"),
        ("2606:4700::1111", "public"),
    ],
)
def test_the_kind_of_an_address(host: str, kind: str) -> None:
    assert address_kinds(host) == {kind}


def test_a_name_that_is_unknown_has_no_kind() -> None:
    assert address_kinds("no-such-host.invalid") == set()

"""The merge as a stream: the base's files come, a few megabytes at a time, and the result's files go.

The bytes are read and verified in one thread, merged in others, and written and hashed in the caller's. No
weight is ever whole in memory, and nothing is on the disk but what the store keeps.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from typing import BinaryIO, Final

import torch

from lorafinetune_stages.export.layout import Shard, Tensor
from lorafinetune_stages.export.weight_merge import Merge
from lorafinetune_stages.store import Advance, Chunk, Store, Stored
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.manifest import MANIFEST, ManifestFile
from lorafinetune_stages.store.streams import ahead, in_order

PIECE_BYTES: Final = 2**22
PIECES_AHEAD: Final = 4
PARTS_AT_ONCE: Final = 8
"""Of a file of the result: one is written at a time, and its store may be far away."""
MAX_WORKERS: Final = 8


@dataclass(frozen=True)
class TensorRows:
    """Some rows of a tensor. first: number of the first one. merge: None where it stays as it is."""

    data: bytearray
    tensor: Tensor
    first: int = 0
    merge: Merge | None = None

    def merged(self) -> bytearray:
        if self.merge:
            rows = torch.frombuffer(self.data, dtype=self.merge.dtype)
            self.merge.apply(rows.view(-1, *self.tensor.shape[1:]), self.first)
        return self.data


@dataclass(frozen=True)
class Base:
    """The weights of a model. files: of its manifest. tensors: in the order in which the files hold them."""

    store: Store
    place: str
    files: Sequence[ManifestFile]
    tensors: Sequence[Tensor]

    def pieces(self, merges: Mapping[str, Merge]) -> Iterator[TensorRows]:
        """Raises DamagedError at the end of a file that is not the manifest's."""
        files = {file.path: file for file in self.files}
        for name, tensors in groupby(self.tensors, lambda tensor: tensor.file):
            with self.store.open(f"{self.place}/{name}") as stream:
                source = _Verified(stream, files[name], self.store.uri, self.place)
                for tensor in tensors:
                    source.skip_to(tensor.begin)
                    yield from _pieces(source, tensor, merges.get(tensor.name))
                source.finish()


def write_shards(
    base: Base,
    merges: Mapping[str, Merge],
    shards: Sequence[Shard],
    store: Store,
    place: str,
    advance: Advance,
) -> Iterator[ManifestFile]:
    """Merges and uploads one file of the result after the other, and yields what it uploaded.

    Where it raises, files may have been written of a base that is not what it should be.
    """
    workers = min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    with (
        _one_thread_an_operation(),
        closing(ahead(base.pieces(merges), PIECES_AHEAD)) as read,
        closing(in_order(TensorRows.merged, read, workers + PIECES_AHEAD, workers)) as merged,
    ):
        for shard in shards:
            data = _take(merged, sum(tensor.bytes for tensor in shard.tensors), advance)
            stored = store.put(f"{place}/{shard.name}", chain([shard.header()], data), at_once=PARTS_AT_ONCE)
            yield ManifestFile(path=shard.name, size=stored.size, sha256=stored.sha256)
        if any(merged):
            raise AssertionError("the shards do not hold all weights")


def _pieces(source: "_Verified", tensor: Tensor, merge: Merge | None) -> Iterator[TensorRows]:
    if merge is None:
        for start in range(0, tensor.bytes, PIECE_BYTES):
            yield TensorRows(source.read(min(PIECE_BYTES, tensor.bytes - start)), tensor)
        return
    rows = tensor.shape[0]
    row_bytes = tensor.bytes // max(rows, 1)
    step = rows if merge.whole else max(PIECE_BYTES // max(row_bytes, 1), 1)
    for first in range(0, rows, max(step, 1)):
        data = source.read(min(step, rows - first) * row_bytes)
        yield TensorRows(data, tensor, first, merge)


def _take(pieces: Iterator[bytearray], size: int, advance: Advance) -> Iterator[Chunk]:
    """The next pieces of `size` bytes together."""
    while size > 0:
        piece = next(pieces)
        size -= len(piece)
        advance(len(piece))
        yield memoryview(piece)


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    """Pieces are merged side by side: each by one thread, which waits for no other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Verified:
    """A file of the base that is read once, from its start to its end."""

    def __init__(self, stream: BinaryIO, file: ManifestFile, store: str, place: str) -> None:
        self._stream = stream
        self._file = file
        self._store = store
        self._place = place
        self._sha256 = hashlib.sha256()
        self._position = 0

    def read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._stream.readinto(view)  # type: ignore[attr-defined]  # typeshed has it one class below
            if not count:
                raise self._damaged()
            view = view[count:]
        self._sha256.update(data)
        self._position += size
        return data

    def skip_to(self, position: int) -> None:
        while self._position < position:
            self.read(min(PIECE_BYTES, position - self._position))

    def finish(self) -> None:
        self.skip_to(self._file.size)
        stored = Stored(self._position, self._sha256.hexdigest())
        if self._stream.read(1) or stored != Stored(self._file.size, self._file.sha256):
            raise self._damaged()

    def _damaged(self) -> DamagedError:
        path = self._file.path
        message = f"{self._store}/{self._place}: the file {path} does not match {MANIFEST}"
        return DamagedError(self._place, path, message)

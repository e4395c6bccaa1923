"""The store in S3: boto3 for identity, control and conditional writes, obstore for bulk data."""

import io
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from lorafinetune.api.sources import Connection
from lorafinetune_stages.store import PARTS_AT_ONCE, Advance, Chunk, Entry, Stored, ignore_progress
from lorafinetune_stages.store.errors import too_large
from lorafinetune_stages.store.naming import check_key
from lorafinetune_stages.store.s3_access import DEFAULT_BOUNDS, Bounds, access
from lorafinetune_stages.store.s3_bulk import UNKNOWN_SIZE, Bulk, ChunksReader
from lorafinetune_stages.store.s3_control import Control
from lorafinetune_stages.store.streams import CHUNK_BYTES, Measured, chunks_of, save


class S3Store:
    """A store at `s3://BUCKET[/PREFIX]`.

    bounds: how long a server that fails is waited for, before StageError(StorageUnavailable).
    """

    def __init__(
        self, bucket: str, prefix: str, connection: Connection | None, bounds: Bounds = DEFAULT_BOUNDS
    ) -> None:
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        root = f"{prefix}/" if prefix else ""
        reached = access(bucket, connection, bounds)
        self._control = Control(reached, root, self.uri)
        self._bulk = Bulk(reached, root, self.uri)
        self._swept = False

    @property
    def conditional_writes(self) -> bool:
        return self._control.conditional_writes

    def list(self, prefix: str) -> Iterator[Entry]:
        yield from self._control.list(self._check(prefix) if prefix else "")

    def find(self, key: str) -> Entry | None:
        return self._control.find(self._check(key))

    def read(self, key: str, limit: int = 64 * 2**20) -> bytes | None:
        found = self._bulk.read(self._check(key), limit)
        if found and found.size > limit:
            raise too_large(f"{self.uri}/{key}", limit)
        return b"".join(found.chunks) if found else None

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[BinaryIO]:
        with (
            closing(self._bulk.chunks(self._check(key), offset)) as chunks,
            io.BufferedReader(ChunksReader(chunks), CHUNK_BYTES) as stream,
        ):
            yield stream

    def create(self, key: str, data: bytes) -> bool:
        return self._control.create(self._check(key), data)

    def write(self, key: str, data: bytes) -> None:
        self._bulk.write(self._check(key), data)

    def put(
        self,
        key: str,
        chunks: Iterable[Chunk],
        advance: Advance = ignore_progress,
        at_once: int = PARTS_AT_ONCE,
    ) -> Stored:
        return self._put(key, chunks, advance, UNKNOWN_SIZE, at_once)

    def upload(self, path: Path, key: str, advance: Advance = ignore_progress) -> Stored:
        with path.open("rb") as file:
            return self._put(key, chunks_of(file), advance, path.stat().st_size, PARTS_AT_ONCE)

    def download(self, key: str, path: Path, advance: Advance = ignore_progress) -> Stored:
        with closing(self._bulk.chunks(self._check(key))) as chunks:
            return save(chunks, path, advance)

    def delete(self, prefix: str) -> None:
        for entry in self.list(self._check(prefix)):
            self._control.delete(entry.key)

    def _put(self, key: str, chunks: Iterable[Chunk], advance: Advance, size: int, at_once: int) -> Stored:
        self._check(key)
        if not self._swept:
            self._swept = True
            self._control.abort_stale_uploads()
        measured = Measured(chunks, advance)
        self._bulk.put(key, measured, size, at_once)
        return measured.stored

    def _check(self, key: str) -> str:
        return check_key(key, self.uri)

"""Bulk data of S3, through obstore: in parts, in parallel, in bounded memory.

An object is read in parts of one version: one that is replaced meanwhile is an error, not a mixture.
"""

import io
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError, PreconditionError

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Chunk
from lorafinetune_stages.store.s3_access import BucketAccess
from lorafinetune_stages.store.s3_errors import S3Refusal, explain, refusal_of
from lorafinetune_stages.store.streams import CHUNK_BYTES, as_wanted

if TYPE_CHECKING:
    from obstore import GetOptions

PART_BYTES: Final = 8 * 2**20
SPARE_PARTS: Final = 16
"""That all files may ask for together, beyond one of each, where the store is too far away to be read as fast
as it could be otherwise. They cost memory."""
SPARE_PARTS_OF_A_FILE: Final = 12
MAX_PARTS: Final = 9_000
"""S3 allows 10,000 parts in an upload."""
UNKNOWN_SIZE: Final = 16 * 2**20 * MAX_PARTS
"""What a stream of unknown length may have: 141 GiB."""
RANGE_NOT_SATISFIABLE: Final = 416


@dataclass(frozen=True)
class Part:
    """A part of an object in chunks, and what the object is. size: of the whole object in bytes."""

    chunks: tuple[bytes, ...]
    size: int
    version: str | None

    def __len__(self) -> int:
        return sum(map(len, self.chunks))


class Bulk:
    """Reads and writes the objects below one prefix of a bucket. root: like `models/`, or empty."""

    def __init__(self, access: BucketAccess, root: str, uri: str) -> None:
        self._access = access
        self._root = root
        self._uri = uri
        self._spare = BoundedSemaphore(SPARE_PARTS)

    def read(self, key: str, limit: int) -> Part | None:
        """The first `limit` bytes of an object, or None where there is none."""
        try:
            return self._get(key, 0, limit, None)
        except (BaseError, FileNotFoundError) as problem:
            if refusal_of(problem).is_missing_key:
                return None
            raise self._explain(problem, key) from None

    def chunks(self, key: str, offset: int = 0) -> Generator[bytes]:
        """The object's bytes from `offset` on, in order, while the next parts are on their way."""
        first = self._part(key, offset, None)
        yield from first.chunks
        starts = range(offset + len(first), first.size, PART_BYTES)
        with closing(self._parts(key, starts, first.version)) as parts:
            for part in parts:
                yield from part.chunks

    def write(self, key: str, data: bytes) -> None:
        with self._errors(key):
            obstore.put(self._access.bulk, self._root + key, data, use_multipart=False)

    def put(self, key: str, chunks: Iterable[Chunk], size: int, at_once: int) -> None:
        """Writes a stream of at most `size` bytes. Where it breaks, the upload is aborted."""
        part_bytes = max(PART_BYTES, -(-size // MAX_PARTS))
        source = _Source(chunks)
        head = source.take(part_bytes)
        if sum(map(len, head)) < part_bytes:
            self.write(key, b"".join(head))
            return
        with self._errors(key, source):
            obstore.put(
                self._access.bulk,
                self._root + key,
                chain(head, source),
                chunk_size=part_bytes,
                max_concurrency=at_once,
            )

    def _parts(self, key: str, starts: Iterable[int], version: str | None) -> Generator[Part]:
        return as_wanted(
            lambda start: self._part(key, start, version), starts, self._spare, SPARE_PARTS_OF_A_FILE
        )

    def _part(self, key: str, start: int, version: str | None) -> Part:
        with self._errors(key):
            return self._get(key, start, start + PART_BYTES, version)

    def _get(self, key: str, start: int, end: int, version: str | None) -> Part:
        options: GetOptions = {"range": (start, end)}
        if version:
            options["if_match"] = version
        try:
            got = obstore.get(self._access.bulk, self._root + key, options=options)
            return Part(tuple(got.stream(CHUNK_BYTES)), got.meta["size"], got.meta["e_tag"])
        except BaseError as problem:
            if refusal_of(problem).status == RANGE_NOT_SATISFIABLE:
                return Part((), start, version)
            raise

    @contextmanager
    def _errors(self, key: str, source: "_Source | None" = None) -> Iterator[None]:
        try:
            yield
        except PreconditionError:
            raise StageError(
                Reason.STORAGE_UNAVAILABLE, f"{self._uri}/{key} was replaced while it was read"
            ) from None
        except (BaseError, FileNotFoundError) as problem:
            if source and source.error:
                raise source.error from None  # what the server said to the abort is of no interest
            raise self._explain(problem, key) from None

    def _explain(self, problem: Exception, key: str) -> StageError:
        refusal = refusal_of(problem)
        if refusal.status is None:
            refusal = self._refused_identity() or refusal
        return explain(refusal, f"{self._uri}/{key}", self._access)

    def _refused_identity(self) -> S3Refusal | None:
        """Why boto3 gave obstore no credentials, which obstore does not tell from a server that is away."""
        try:
            if self._access.credentials:
                self._access.credentials.get_frozen_credentials()
        except (ClientError, BotoCoreError) as problem:
            return refusal_of(problem)
        return None


class ChunksReader(io.RawIOBase):
    """A stream over chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is wider
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Source:
    """A stream that is written. error: what it raised itself, which is no error of the store."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = iter(chunks)
        self.error: BaseException | None = None

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> Chunk:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as problem:
            self.error = problem
            raise

    def take(self, size: int) -> list[Chunk]:
        """Chunks of at least `size` bytes, or all that there are."""
        taken: list[Chunk] = []
        while size > 0 and (chunk := next(self, None)) is not None:
            taken.append(chunk)
            size -= len(chunk)
        return taken

"""`s3://BUCKET/PREFIX` and `s3://BUCKET/KEY`: read through the same store package as the outputs.

A bucket has no commits. The digest of the listing, with each object's version, stands for one: it
changes whenever an object does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.keys import digest
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import MAX_FILES, RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store import Entry
from lorafinetune_stages.store.factory import open_store
from lorafinetune_stages.store.streams import chunks_of


class S3Source:
    """All objects below a prefix, or one object. wanted: whether a path counts for the revision."""

    def __init__(self, origin: Origin, wanted: Callable[[str], bool]) -> None:
        bucket, _, self._key = origin.path.partition("/")
        self._origin = origin
        self._single = origin.kind == "datasets" and not self._key.endswith("/")
        self._wanted = wanted
        self._entries: dict[str, Entry] = {}
        with self._failures():
            self._store = open_store(f"s3://{bucket}", origin.connection)

    def snapshot(self) -> Snapshot:
        self._entries = self._list()
        if not self._entries:
            raise self._nothing()
        files = tuple(RemoteFile(path, entry.size) for path, entry in self._entries.items())
        return Snapshot(self._revision(), files, self._single)

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        entry = self._entries[file.path]
        with self._failures(), self._store.open(entry.key, offset) as body:
            yield from chunks_of(body)
        with self._failures():
            now = self._store.find(entry.key)
        if now != entry:
            raise self._origin.corrupt(f"was written to while it was copied: {file.path}")

    def _list(self) -> dict[str, Entry]:
        with self._failures():
            if self._single:
                entry = self._store.find(self._key)
                return {self._key.rpartition("/")[2]: entry} if entry else {}
            prefix = self._key.rstrip("/")
            within = f"{prefix}/" if prefix else ""
            listed = list(islice(self._store.list(prefix), MAX_FILES + 1))
        if len(listed) > MAX_FILES:
            raise self._origin.too_many_files()
        return {entry.key.removeprefix(within): entry for entry in listed}

    def _revision(self) -> str:
        counted = [
            (path, entry.size, entry.version)
            for path, entry in self._entries.items()
            if self._single or self._wanted(path)
        ]
        return digest(sorted(counted))

    def _nothing(self) -> StageError:
        if self._single:
            hint = "Check the key; a prefix has a slash at its end."
            return self._origin.error(self._origin.missing, "does not exist: there is no such object", hint)
        return self._origin.error(self._origin.missing, "does not exist: there is no object below it")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Tells the store's failures as those of this source. The store has tried again by then."""
        try:
            yield
        except StageError as problem:
            hint = problem.hint
            if problem.reason is Reason.STORAGE_DENIED:
                hint = "Grant the credentials of the source's connection read and list on it."
            raise self._origin.error(problem.reason, f"can't be read: {problem.message}", hint) from problem

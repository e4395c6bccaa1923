"""The manifest: the last file of every output, and the only proof that the output is complete."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ValidationError

from lorafinetune.api.problem import first_fault
from lorafinetune.api.reasons import Reason
from lorafinetune.api.types import Count, Digest, Line, Model, Time
from lorafinetune.contract.keys import digest
from lorafinetune.contract.outcome import StageError
from lorafinetune.contract.times import rfc3339
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.naming import key_fault
from lorafinetune_stages.store.seal import is_sealed, seal

log = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 16 * 2**20
COMMIT_ATTEMPTS: Final = 3


def _safe(path: str) -> str:
    if fault := "it is the manifest itself" if path == MANIFEST else key_fault(path):
        raise ValueError(f"not the path of a file: {fault}")
    return path


class ManifestFile(Model):
    """One file of an output; path is relative to the manifest."""

    path: Annotated[str, AfterValidator(_safe)]
    size: Count
    sha256: Digest


def _distinct(files: tuple[ManifestFile, ...]) -> tuple[ManifestFile, ...]:
    counts = Counter(file.path for file in files)
    if twice := [path for path, count in counts.items() if count > 1]:
        raise ValueError(f"the file {twice[0]} is listed twice")
    return files


class Manifest(Model):
    """Everything about one output: its files, where it came from, and what it amounted to."""

    kind: Line
    key: Digest
    digest: Digest
    """Digest over path, size and sha256 of all files."""
    files: Annotated[tuple[ManifestFile, ...], AfterValidator(_distinct)]
    lineage: dict[str, Any]
    """Everything that shaped the output: commits, digests, config, versions, seed, hardware."""
    result: dict[str, Any] | None = None
    """The stage's result, from which a cache hit is answered."""
    created: Time
    seal: Digest | None = None
    """Digest over all other fields. What was written before 0.1.0 has none and is read without, as long as it
    is kept; every later version seals."""

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def files_digest(files: tuple[ManifestFile, ...]) -> str:
    """The digest of a set of files: equal content has an equal digest, wherever it came from."""
    return digest(sorted((file.path, file.size, file.sha256) for file in files))


def read_manifest(store: Store, place: str) -> Manifest | None:
    """The manifest at a place like `trainings/KEY`, or None where the output is not complete.

    Raises StageError(ArtifactCorrupt) where it can't be read: DamagedError where no version of ours can have
    written it so, or not there.
    """
    return read_manifest_of(store, place, place.rpartition("/")[2])


def read_manifest_of(store: Store, place: str, key: str) -> Manifest | None:
    """The same at a place that does not end with the key, as that of a checkpoint.

    Twice where it is damaged: what was read may have been hurt on its way, and an output is costly.
    """
    try:
        return _read(store, place, key)
    except DamagedError:
        return _read(store, place, key)


def find_output(store: Store, place: str) -> Manifest | None:
    """The manifest of a complete output whose files are all there: a cache hit.

    Where files are missing, or the manifest is damaged or another's, it is removed, so that the output does
    not exist until the stage that makes it has run again. Raises StageError(ArtifactCorrupt) for a manifest
    that another version of ours may be able to read.
    """
    try:
        manifest = read_manifest(store, place)
        if manifest is None or verify_present(store, place, manifest):
            return manifest
    except DamagedError as damaged:
        log.warning("%s", damaged.message)
    withdraw_manifest(store, place)
    return None


def verify_present(store: Store, place: str, manifest: Manifest) -> bool:
    """Whether every file of the output is there with its size; what is not is logged."""
    if damaged := damaged_files(store, place, manifest):
        counts = f"{len(damaged)} of {len(manifest.files)}"
        log.warning("%s/%s: %s files are missing or cut, first %s", store.uri, place, counts, damaged[0])
    return not damaged


def damaged_files(store: Store, place: str, manifest: Manifest) -> list[str]:
    """The files of the output that are missing or cut. One listing; no content is read."""
    sizes = {entry.key.removeprefix(f"{place}/"): entry.size for entry in store.list(place)}
    return [file.path for file in manifest.files if sizes.get(file.path) != file.size]


def take_back(store: Store, damaged: DamagedError) -> None:
    """Has the output made again, and the file in it: a download takes one of the right size for whole."""
    withdraw_manifest(store, damaged.place)
    if damaged.path:
        store.delete(f"{damaged.place}/{damaged.path}")


def withdraw_manifest(store: Store, place: str) -> None:
    """Makes an output incomplete, before its files are written anew."""
    store.delete(f"{place}/{MANIFEST}")


def commit_manifest(
    store: Store,
    place: str,
    kind: str,
    key: str,
    files: Iterable[ManifestFile],
    lineage: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    now: str | None = None,
) -> Manifest:
    """Makes an output complete. All its files must be in the store by now.

    Returns the manifest that counts: another writer's where that one was first. now: RFC 3339.
    """
    in_order = tuple(sorted(files, key=lambda file: file.path))
    ours = Manifest(
        kind=kind,
        key=key,
        digest=files_digest(in_order),
        files=in_order,
        lineage=dict(lineage),
        result=None if result is None else dict(result),
        created=now or rfc3339(datetime.now(UTC)),
    )
    return _write_once(store, place, sealed(ours))


def sealed(manifest: Manifest) -> Manifest:
    """The same with the seal that it must have."""
    return manifest.model_copy(update={"seal": seal(manifest.encode())})


def encode(manifest: Manifest) -> bytes:
    """The file."""
    return json.dumps(manifest.encode(), indent=1, ensure_ascii=False).encode()


def fault(manifest: Manifest) -> str:
    """What tells that it is not as it was written, or an empty string."""
    if manifest.seal is not None and manifest.seal != seal(manifest.encode()):
        return "its seal is not that of what it says"
    if manifest.digest != files_digest(manifest.files):
        return "its digest is not that of the files it lists"
    return ""


def _write_once(store: Store, place: str, ours: Manifest) -> Manifest:
    """The manifest that is there in the end."""
    data = encode(ours)
    for _ in range(COMMIT_ATTEMPTS):
        if store.create(f"{place}/{MANIFEST}", data):
            return ours
        if theirs := read_manifest_of(store, place, ours.key):
            return theirs
    raise StageError(
        Reason.STORAGE_UNAVAILABLE,
        f"{store.uri}/{place}/{MANIFEST} can't be written, and isn't there: another run keeps removing it",
    )


def _read(store: Store, place: str, key: str) -> Manifest | None:
    data = store.read(f"{place}/{MANIFEST}", MAX_MANIFEST_BYTES)
    if data is None:
        return None
    manifest = _decode(data, store, place)
    another = f"it is the manifest of another output, whose key is {manifest.key}"
    if why := fault(manifest) or (another if manifest.key != key else ""):
        raise DamagedError(place, "", f"{store.uri}/{place}/{MANIFEST}: {why}")
    return manifest


def _decode(data: bytes, store: Store, place: str) -> Manifest:
    """What is sealed, and yet none to this version, is a later one's. All else is damaged."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as problem:
        message = ": ".join(filter(None, (f"{store.uri}/{place}/{MANIFEST}", *first_fault(problem))))
        if is_sealed(data):
            raise StageError(Reason.ARTIFACT_CORRUPT, message) from problem
        raise DamagedError(place, "", message) from problem

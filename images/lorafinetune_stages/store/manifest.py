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

log = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 16 * 2**20
COMMIT_ATTEMPTS: Final = 3
NO_JSON: Final = "json_invalid"
"""Pydantic's name for text that is cut or mixed up."""


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

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def files_digest(files: tuple[ManifestFile, ...]) -> str:
    """The digest of a set of files: equal content has an equal digest, wherever it came from."""
    return digest(sorted((file.path, file.size, file.sha256) for file in files))


def read_manifest(store: Store, place: str) -> Manifest | None:
    """The manifest at a place like `trainings/KEY`, or None where the output is not complete.

    Raises StageError(ArtifactCorrupt) where it can't be read: DamagedError where no version of ours can have
    written it so.
    """
    data = store.read(f"{place}/{MANIFEST}", MAX_MANIFEST_BYTES)
    return None if data is None else _decode(data, store, place)


def find_output(store: Store, place: str) -> Manifest | None:
    """The manifest of a complete output whose files are all there: a cache hit.

    Where files are missing, or the manifest is damaged or another's, it is removed, so that the output does
    not exist until the stage that makes it has run again. Raises StageError(ArtifactCorrupt) for a manifest
    that another version of ours may be able to read.
    """
    try:
        manifest = read_manifest(store, place)
        if manifest is None or (_is_of(place, manifest) and verify_present(store, place, manifest)):
            return manifest
    except DamagedError as damaged:
        log.warning("%s", damaged.message)
    withdraw_manifest(store, place)
    return None


def _is_of(place: str, manifest: Manifest) -> bool:
    is_ours = manifest.key == place.rpartition("/")[2]
    if not is_ours:
        log.warning("%s has the manifest of another output: its key is %s", place, manifest.key)
    return is_ours


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
    return _write_once(store, place, ours)


def _write_once(store: Store, place: str, ours: Manifest) -> Manifest:
    """The manifest that is there in the end."""
    data = json.dumps(ours.encode(), indent=1, ensure_ascii=False).encode()
    for _ in range(COMMIT_ATTEMPTS):
        if store.create(f"{place}/{MANIFEST}", data):
            return ours
        if theirs := read_manifest(store, place):
            return theirs
    raise StageError(
        Reason.STORAGE_UNAVAILABLE,
        f"{store.uri}/{place}/{MANIFEST} can't be written, and isn't there: another run keeps removing it",
    )


def _decode(data: bytes, store: Store, place: str) -> Manifest:
    uri = f"{store.uri}/{place}/{MANIFEST}"
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as problem:
        message = ": ".join(filter(None, (uri, *first_fault(problem))))
        if problem.errors()[0]["type"] == NO_JSON:
            raise DamagedError(place, "", message) from problem
        raise StageError(Reason.ARTIFACT_CORRUPT, message) from problem
    if manifest.digest != files_digest(manifest.files):
        raise DamagedError(place, "", f"{uri}: its digest is not that of the files it lists")
    return manifest

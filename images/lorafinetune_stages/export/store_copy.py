"""Copies of the merged model: files go from store to store, verified, and the manifest last."""

import logging
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Advance, Store, Stored, ignore_progress
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.factory import open_store
from lorafinetune_stages.store.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestFile,
    encode,
    fault,
    files_digest,
    sealed,
)
from lorafinetune_stages.store.streams import chunks_of

log = logging.getLogger(__name__)

BEGUN: Final = "manifest.begun.json"
"""Stands while one model takes the place of another, and names the files of both."""


def copy_to_store(context: Context, manifest: Manifest, where: str, origin: Origin) -> None:
    """Brings a bucket to the state of the export at `where`; one that is in it already is left."""
    store = open_store(origin.source, origin.connection)
    before = _manifest(store, MANIFEST)
    if before is None or before.digest != manifest.digest:
        context.progress.begin(f"publishing to {origin.source}"[:256], manifest.bytes, "bytes")
        earlier = [one for one in (before, _manifest(store, BEGUN)) if one]
        _replace(context, manifest, where, store, earlier)


def copy_file(
    source: Store, place: str, file: ManifestFile, target: Store, key: str, advance: Advance = ignore_progress
) -> None:
    """Raises DamagedError where the file is not the manifest's any more."""
    with source.open(f"{place}/{file.path}") as stream:
        stored = target.put(key, chunks_of(stream), advance)
    if stored != Stored(file.size, file.sha256):
        target.delete(key)
        message = f"{source.uri}/{place}: the file {file.path} does not match {MANIFEST}"
        raise DamagedError(place, file.path, message)


def _replace(
    context: Context, manifest: Manifest, where: str, target: Store, earlier: Sequence[Manifest]
) -> None:
    """A file that only models of before had is removed: loaders would mistake it for a part. Their manifest
    goes first, so what they had is kept in another until then, for whoever goes on after a crash."""
    files = {file.path: file for one in (*earlier, manifest) for file in one.files}
    if earlier:
        both = tuple(files.values())
        listed = manifest.model_copy(update={"files": both, "digest": files_digest(both)})
        target.write(BEGUN, encode(sealed(listed)))
    target.delete(MANIFEST)
    for file in manifest.files:
        copy_file(context.store, where, file, target, file.path, context.progress.advance)
    for stale in files.keys() - {file.path for file in manifest.files}:
        target.delete(stale)
    if earlier:
        target.delete(BEGUN)
    target.write(MANIFEST, encode(manifest))


def _manifest(store: Store, name: str) -> Manifest | None:
    """What was published there last, or was being published; None for nothing, for what is none of ours, and
    for what is damaged: no file is left or removed for what that says."""
    data = store.read(name, MAX_MANIFEST_BYTES)
    try:
        found = Manifest.model_validate_json(data) if data else None
    except ValidationError:
        return None
    if found and (why := fault(found)):
        log.warning("%s/%s: %s: the model is published again", store.uri, name, why)
        return None
    return found

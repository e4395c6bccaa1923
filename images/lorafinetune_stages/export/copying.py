"""Copies of the merged model: files go from store to store, verified, and the manifest last."""

import json

from pydantic import ValidationError

from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Advance, Store, Stored, ignore_progress
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, ManifestFile
from lorafinetune_stages.store.opening import open_store
from lorafinetune_stages.store.streams import chunks_of


def copy_to_store(context: Context, manifest: Manifest, where: str, origin: Origin) -> None:
    """Brings a bucket to the state of the export at `where`; one that is in it already is left."""
    store = open_store(origin.source, origin.connection)
    before = _published(store)
    if before is None or before.digest != manifest.digest:
        context.progress.begin(f"publishing to {origin.source}"[:256], manifest.bytes, "bytes")
        _replace(context, manifest, where, store, before)


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
    context: Context, manifest: Manifest, where: str, target: Store, before: Manifest | None
) -> None:
    """A file that only the model of before had is removed: loaders would mistake it for a part."""
    target.delete(MANIFEST)
    kept = {file.path for file in manifest.files}
    for file in manifest.files:
        copy_file(context.store, where, file, target, file.path, context.progress.advance)
    for stale in before.files if before else ():
        if stale.path not in kept:
            target.delete(stale.path)
    target.write(MANIFEST, json.dumps(manifest.encode(), indent=1, ensure_ascii=False).encode())


def _published(store: Store) -> Manifest | None:
    """What was published there last; None for nothing, and for what is none of ours."""
    data = store.read(MANIFEST, MAX_MANIFEST_BYTES)
    try:
        return Manifest.model_validate_json(data) if data else None
    except ValidationError:
        return None

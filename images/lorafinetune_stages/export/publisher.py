"""The merged model where people look for it: in buckets, and as repositories of hubs.

A target is brought to the state of the export. What it has already is neither sent nor written again, so
the next run does what a crash left undone, and a run after that changes nothing.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate
from typing import Final

from lorafinetune.api.artifacts import Published
from lorafinetune.api.exports import Publish
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import ExportArguments
from lorafinetune.contract.keys import digest
from lorafinetune.contract.times import rfc3339
from lorafinetune_stages.export.layout import is_weights
from lorafinetune_stages.export.store_copy import copy_to_store
from lorafinetune_stages.hubs import Change, Pause, RemoteFile, Snapshot, Target, TransientError
from lorafinetune_stages.hubs.content import Content, blob_id
from lorafinetune_stages.hubs.factory import open_target
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.retry import retry
from lorafinetune_stages.hubs.targets import origins
from lorafinetune_stages.licences import README, check_names, licence_fields
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Advance, ignore_progress
from lorafinetune_stages.store.manifest import Manifest, ManifestFile
from lorafinetune_stages.store.transfer import in_parallel

log = logging.getLogger("lorafinetune")

UPLOADS: Final = 4
"""Files that are sent at once."""
UNKNOWN_LICENCE: Final = "other"
RECORDS: Final = "published"
"""Directory in the export with a record of every place."""
RECORD_DIGITS: Final = 16
SINCE: Final = "since"
"""Name of the time in it."""
MAX_TOLD_BYTES: Final = 2000
"""Of places in the stage's result, which has to fit a termination message."""


def publish(
    arguments: ExportArguments, context: Context, manifest: Manifest, where: str, pause: Pause | None = None
) -> tuple[Published, ...]:
    """Brings every target to the state of the export at `where`, and says where it is now.

    pause: replaces waiting between attempts. Raises StageError.
    """
    check_names(context.store, where, manifest, arguments.export.publish)
    publisher = _Publisher(context, manifest, where, pause)
    return tuple(
        publisher.recorded(publisher.publish(wanted, origin))
        for wanted, origin in origins(arguments, arguments.export.publish)
    )


def tellable(published: tuple[Published, ...]) -> tuple[Published, ...]:
    """As many of the first places as a stage's result has room for; all, unless their names are very long."""
    sizes = accumulate(len(json.dumps(one.encode())) for one in published)
    return tuple(one for one, size in zip(published, sizes, strict=True) if size <= MAX_TOLD_BYTES)


class _Publisher:
    """One export, that is published."""

    def __init__(self, context: Context, manifest: Manifest, where: str, pause: Pause | None) -> None:
        self._context = context
        self._manifest = manifest
        self._where = where
        self._pause = pause

    def publish(self, wanted: Publish, origin: Origin) -> Published:
        if origin.scheme == "s3":
            copy_to_store(self._context, self._manifest, self._where, origin)
            return Published(uri=origin.source, revision=self._manifest.digest)
        pause = self._pause or time.sleep
        with open_target(origin, pause) as target:
            revision = retry(partial(self._bring, wanted, origin, target), pause)
            return Published(uri=origin.source, revision=revision)

    def recorded(self, published: Published) -> Published:
        """Keeps with the export where it was published, and at which revision since when."""
        at = f"{self._where}/{RECORDS}/{digest(published.uri)[:RECORD_DIGITS]}.json"
        record = {**published.encode(), "digest": self._manifest.digest}
        if _without_since(self._context.store.read(at) or b"null") != record:
            now = rfc3339(datetime.now(UTC))
            text = json.dumps({**record, SINCE: now}, indent=1, ensure_ascii=False)
            self._context.store.write(at, text.encode())
        return published

    def _bring(self, wanted: Publish, origin: Origin, target: Target) -> str:
        """One attempt, from what is there to what shall be. The commit at which it is."""
        before = target.snapshot()
        change = self._change(before or Snapshot("", ()))
        if before and not change.add and not change.remove:
            log.info("%s is at %s: published already", origin.source, before.revision)
            return before.revision
        with target.connected():
            if before is None:
                target.create(wanted.visibility, self._licence())
            self._send(target, origin, change)
        return self._published(target, origin)

    def _change(self, there: Snapshot) -> Change:
        """What makes the repository hold the export: its files, and no shards of a model before it."""
        found = {file.path: file for file in there.files}
        wanted = {file.path for file in self._manifest.files}
        add = [content for file in self._manifest.files if _differs(content := self._content(file), found)]
        remove = sorted(path for path in found if path not in wanted and is_weights(path))
        return Change(f"Publish the export {self._manifest.key}", add, remove)

    def _send(self, target: Target, origin: Origin, change: Change) -> None:
        progress, stopped = self._context.progress, threading.Event()
        pause = self._pause or stopped.wait
        total = sum(content.file.size for content in change.add)
        progress.begin(f"publishing to {origin.source}"[:256], total, "bytes")

        def send(content: Content, advance: Advance) -> Content:
            with self._content(content.file, advance) as counted:
                retry(partial(target.upload, counted), pause)
                counted.complete()
                return counted

        in_parallel(send, change.add, progress.advance, UPLOADS, stopped)
        target.commit(change)

    def _published(self, target: Target, origin: Origin) -> str:
        """The commit, once the hub shows what was asked for: nothing else is a success."""
        there = target.snapshot()
        left = self._change(there) if there else None
        if there and left and not left.add and not left.remove:
            log.info("%s is at %s: published", origin.source, there.revision)
            return there.revision
        what = f"{origin.failed}: {origin.host} does not show what was committed"
        raise TransientError(origin.error(Reason.HUB_UNAVAILABLE, what))

    def _content(self, file: ManifestFile, advance: Advance | None = None) -> Content:
        opened = partial(self._context.store.open, f"{self._where}/{file.path}")
        return Content(self._where, file, opened, advance or ignore_progress)

    def _licence(self) -> str:
        """The licence that the model's card names, which is that of its base."""
        card = self._context.store.read(f"{self._where}/{README}") or b""
        return licence_fields(card).get("license", UNKNOWN_LICENCE)


def _without_since(record: bytes) -> object:
    """What a record says but for its time; what is damaged says nothing, and is written anew."""
    try:
        content = json.loads(record)
    except (ValueError, RecursionError):
        return None
    return {name: content[name] for name in content if name != SINCE} if isinstance(content, dict) else None


def _differs(content: Content, found: Mapping[str, RemoteFile]) -> bool:
    there = found.get(content.file.path)
    if there is None or there.size != content.file.size:
        return True
    if there.sha256 is not None:
        return there.sha256 != content.file.sha256
    return there.blob != blob_id(content)

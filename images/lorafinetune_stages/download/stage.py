"""The order in which download does its work: prove where the result goes, resolve everything, check
everything, then copy."""

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.arguments import DownloadArguments, place
from lorafinetune.contract.keys import source_key
from lorafinetune.contract.names import source_name
from lorafinetune.contract.outcome import DownloadResult
from lorafinetune_stages.download.copier import Copier
from lorafinetune_stages.download.models import select_model
from lorafinetune_stages.download.selection import (
    check_names,
    is_licence_file,
    log_left_out,
    select_data,
    wanted_from,
)
from lorafinetune_stages.download.splits import check_splits
from lorafinetune_stages.hubs import Pause, RemoteFile, Snapshot, Source
from lorafinetune_stages.hubs.factory import open_source
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.retry import resumed
from lorafinetune_stages.hubs.targets import check_targets
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import Manifest, commit_manifest, find_output

log = logging.getLogger("lorafinetune")

UNVERSIONED: Final = ("s3", "https", "file")
"""Schemes without branches, tags and commits."""


@dataclass(frozen=True)
class Resolved:
    """One source at one commit. found: its manifest, where the store has it complete."""

    origin: Origin
    source: Source
    snapshot: Snapshot
    key: str
    found: Manifest | None

    @property
    def place(self) -> str:
        return place(self.origin.kind, self.key)


def run(arguments: DownloadArguments, context: Context, pause: Pause | None = None) -> DownloadResult:
    """Resolves and copies model and datasets. pause: replaces waiting between attempts. Raises StageError."""
    stop = threading.Event()
    pause = pause or stop.wait
    check_targets(arguments, arguments.publish, pause)
    with ExitStack() as sources:
        context.progress.begin("resolving", None, "files")
        resolved = [_resolve(origin, context, pause, sources) for origin in _origins(arguments)]
        missing = {one.place: one for one in resolved if one.found is None}
        selected = {place: _select(one, pause) for place, one in missing.items()}
        total = sum(file.size for files in selected.values() for file in files)
        if missing:
            context.progress.begin("downloading", total, "bytes")
        made = {place: _copy(one, selected[place], context, pause, stop) for place, one in missing.items()}
    return _result(resolved, made)


def _origins(arguments: DownloadArguments) -> list[Origin]:
    """The model first, then the datasets in their order."""
    model = arguments.model
    connection = arguments.connection(model.connection)
    return [
        Origin("spec.model", "models", model.source, model.revision, connection),
        *(
            Origin(
                f"spec.datasets[{index}]",
                "datasets",
                dataset.source,
                dataset.revision,
                arguments.connection(dataset.connection),
            )
            for index, dataset in enumerate(arguments.datasets)
        ),
    ]


def _resolve(origin: Origin, context: Context, pause: Pause, sources: ExitStack) -> Resolved:
    source = sources.enter_context(open_source(origin, wanted_from(origin), pause))
    snapshot = source.snapshot()
    if origin.scheme in UNVERSIONED and origin.revision not in (None, snapshot.revision):
        what = f"has no revision {origin.revision!r}: by its content it is at {snapshot.revision}"
        raise origin.error(origin.missing, what, f"Remove `{origin.field}.revision`.")
    check_splits(origin, snapshot)
    key = source_key(origin.source, snapshot.revision)
    found = find_output(context.store, place(origin.kind, key))
    log.info("%s is at %s: %s", origin.source, snapshot.revision, "in the store" if found else "to be copied")
    return Resolved(origin, source, snapshot, key, found)


def _select(one: Resolved, pause: Pause) -> tuple[RemoteFile, ...]:
    """The files that are taken. Raises StageError for a source that can't be used."""
    check_names(one.origin, one.snapshot)
    if one.origin.kind == "datasets":
        files = select_data(one.origin, one.snapshot)
    else:
        files = select_model(
            one.origin,
            one.snapshot,
            lambda file: b"".join(resumed(one.origin, one.source, file, pause)),
        )
    log_left_out(one.origin, one.snapshot, files)
    return files


def _copy(
    one: Resolved, files: tuple[RemoteFile, ...], context: Context, pause: Pause, stop: threading.Event
) -> Manifest:
    advance = context.progress.advance
    copier = Copier(one.origin, one.source, context.store, one.place, advance, pause, stop)
    copied = copier.copy(files)
    lineage = {
        "source": source_name(one.origin.source),
        "revision": one.origin.revision,
        "commit": one.snapshot.revision,
        "endpoint": one.origin.host or None,
        "licences": [file.path for file in files if is_licence_file(file.path)],
    }
    return commit_manifest(context.store, one.place, one.origin.kind, one.key, copied, lineage, None)


def _result(resolved: list[Resolved], made: dict[str, Manifest]) -> DownloadResult:
    model, *datasets = resolved
    manifest = model.found or made[model.place]
    return DownloadResult(
        cache_hit=not made,
        model=ModelStatus(
            source=model.origin.source,
            revision=model.snapshot.revision,
            digest=manifest.digest,
            bytes=manifest.bytes,
        ),
        datasets=tuple(dataset.key for dataset in datasets),
    )

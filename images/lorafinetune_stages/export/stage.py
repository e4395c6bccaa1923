"""The export stage from its arguments to its result."""

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from lorafinetune.api.artifacts import Artifact
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.outcome import ExportResult, fits
from lorafinetune_stages.base import forbid_hubs, require
from lorafinetune_stages.export.model_merger import MAX_WARNING, WARNINGS, ModelMerger
from lorafinetune_stages.export.publisher import publish, tellable
from lorafinetune_stages.export.report import find_sources, folder, keep_report
from lorafinetune_stages.hubs import Pause
from lorafinetune_stages.hubs.targets import check_targets
from lorafinetune_stages.reuse import find_whole
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import Manifest
from lorafinetune_stages.tracking.dispatch import tell
from lorafinetune_stages.tracking.record import record

log = logging.getLogger("lorafinetune")

UNTOLD: Final = "export.trackers: none was told: what the store keeps of the run can't be read"


def run(arguments: ExportArguments, context: Context, pause: Pause | None = None) -> ExportResult:
    """Merges the adapter, or finds the merged model in the store; then publishes it where it is missing,
    leaves a page about the run, and tells the trackers.

    pause: replaces waiting between attempts. Raises StageError(ModelUnsupported) where the adapter can't be
    merged, and StageError for whatever else a person can mend.
    """
    began = datetime.now(UTC)
    forbid_hubs()
    trained = require(context.store, place("trainings", arguments.trained), "the training")
    reads = {"trained": arguments.trained, "model": arguments.model.digest}
    key = keys.key("export", {"export": arguments.export.encode()}, reads)
    if arguments.export.merged is None:
        return _told(arguments, context, trained, ExportResult(key=key), began, pause)
    where = place("exports", key)
    found = find_whole(context, where, "the merged model")
    if found is None:
        check_targets(arguments, arguments.export.publish, pause or time.sleep)
    manifest = found or ModelMerger(arguments, context, trained, key).run(arguments.export.merged)
    result = ExportResult(
        key=key,
        merged=Artifact(uri=f"{context.store.uri}/{where}", digest=manifest.digest, bytes=manifest.bytes),
        published=tellable(publish(arguments, context, manifest, where, pause)),
        warnings=tuple((manifest.result or {}).get(WARNINGS, ())),
        cache_hit=found is not None,
    )
    return _told(arguments, context, trained, result, began, pause)


def _told(
    arguments: ExportArguments,
    context: Context,
    trained: Manifest,
    result: ExportResult,
    began: datetime,
    pause: Pause | None,
) -> ExportResult:
    """The result, once the page about the run is written and the trackers are told; it is whole without."""
    facts, sources = arguments.run, find_sources(arguments, context, trained, result, began)
    if facts and sources:
        result = result.model_copy(update={"report": keep_report(facts, sources, context)})
    if not arguments.export.trackers:
        return result
    if facts is None or sources is None or not sources.is_trained:
        return _with_warnings(result, [UNTOLD])
    made = record(sources, context.store.uri, result.report)
    return _with_warnings(result, tell(arguments, context, made, folder(facts), pause))


def _with_warnings(result: ExportResult, warnings: Iterable[str]) -> ExportResult:
    """With as many of them as there is room for; the log has all."""
    for warning in warnings:
        log.warning("%s", warning)
        longer = result.model_copy(update={"warnings": (*result.warnings, warning[:MAX_WARNING])})
        result = longer if fits(longer) else result
    return result

"""The export stage from its arguments to its result."""

import time
from datetime import UTC, datetime

from lorafinetune.api.status import Artifact
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.outcome import ExportResult
from lorafinetune_stages.base import forbid_hubs, require
from lorafinetune_stages.export.making import WARNINGS, Making
from lorafinetune_stages.export.publishing import publish, tellable
from lorafinetune_stages.export.report import keep_report
from lorafinetune_stages.hubs import Pause
from lorafinetune_stages.hubs.targets import check_targets
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import find_output


def run(arguments: ExportArguments, context: Context, pause: Pause | None = None) -> ExportResult:
    """Merges the adapter, or finds the merged model in the store; then publishes it where it is missing, and
    leaves a page about the run.

    pause: replaces waiting between attempts. Raises StageError(ModelUnsupported) where the adapter can't be
    merged, and StageError for whatever else a person can mend.
    """
    began = datetime.now(UTC)
    forbid_hubs()
    trained = require(context.store, place("trainings", arguments.trained), "the training")
    reads = {"trained": arguments.trained, "model": arguments.model.digest}
    key = keys.key("export", {"export": arguments.export.encode()}, reads)
    if arguments.export.merged is None:
        return keep_report(arguments, context, trained, ExportResult(key=key), began)
    where = place("exports", key)
    found = find_output(context.store, where)
    if found is None:
        check_targets(arguments, arguments.export.publish, pause or time.sleep)
    manifest = found or Making(arguments, context, trained, key).run(arguments.export.merged)
    result = ExportResult(
        key=key,
        merged=Artifact(uri=f"{context.store.uri}/{where}", digest=manifest.digest, bytes=manifest.bytes),
        published=tellable(publish(arguments, context, manifest, where, pause)),
        warnings=tuple((manifest.result or {}).get(WARNINGS, ())),
        cache_hit=found is not None,
    )
    return keep_report(arguments, context, trained, result, began)

"""The page about the run, left in the store when its export ends.

The page belongs to the run, not to a key: another run that finds the same model has a page of its own. It
says what was known when the export ended; `lorafinetune report` makes one of what is known now.
"""

import logging
import os
from datetime import UTC, datetime
from typing import Final, TypeVar

from pydantic import ValidationError

from lorafinetune.api.artifacts import Artifacts
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import LoRAFineTuneStatus, StageStatus
from lorafinetune.api.types import Model
from lorafinetune.contract.arguments import (
    LOCAL_RUNS,
    RESOURCE_FILE,
    STORE_DIRECTORY_VARIABLE,
    ExportArguments,
    RunFacts,
    place,
)
from lorafinetune.contract.outcome import ExportResult, StageError, TrainResult
from lorafinetune.contract.times import rfc3339
from lorafinetune.report.language import Language
from lorafinetune.report.loading import Origin
from lorafinetune.report.page import render
from lorafinetune.report.sources import Run, Sources
from lorafinetune_stages.prepare.output import Prepared
from lorafinetune_stages.report_sources import gather
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.manifest import Manifest, read_manifest

log = logging.getLogger(__name__)

REPORTS: Final = "reports"

Shape = TypeVar("Shape", bound=Model)


def find_sources(
    arguments: ExportArguments, context: Context, trained: Manifest, result: ExportResult, began: datetime
) -> Sources | None:
    """What the store keeps of the run; None where some of it can't be read, or where nobody asks."""
    if arguments.run is None:
        return None
    try:
        return gather(_run(arguments.run, arguments, context, trained, result, began), context.store)
    except StageError as problem:
        if problem.reason is not Reason.ARTIFACT_CORRUPT:
            raise
        log.warning("there is no page about the run: %s", problem.message)
        return None


def keep_report(facts: RunFacts, sources: Sources, context: Context) -> str:
    """Writes the page in every language, and returns its address."""
    where = folder(facts)
    for language in Language:
        page = render(sources, language, _origin(facts))
        context.store.write(f"{where}/{language.value}.html", page.encode())
    return f"{context.store.uri}/{where}/{Language.EN.value}.html"


def folder(facts: RunFacts) -> str:
    """Where the store has what is told of a run when it ends."""
    return f"{REPORTS}/{facts.namespace}/{facts.name}"


def _run(
    facts: RunFacts,
    arguments: ExportArguments,
    context: Context,
    trained: Manifest,
    result: ExportResult,
    began: datetime,
) -> Run:
    """As its status will be once it has the result of this stage."""
    training = _decoded(TrainResult, trained, arguments.trained)
    prepared = next((stage.key for stage in facts.stages if stage.name == "prepare" and stage.key), None)
    rows = read_manifest(context.store, place("prepared", prepared)) if prepared else None
    status = LoRAFineTuneStatus(
        stage="Complete",
        stages=(*facts.stages, _export(result, began)),
        model=arguments.model,
        dataset=_decoded(Prepared, rows, rows.key).dataset if rows else None,
        training=training.training,
        gpu_seconds=training.gpu_seconds,
        resumes=training.resumes,
        artifacts=Artifacts(adapter=training.adapter, merged=result.merged, published=result.published),
    )
    return Run(facts.name, facts.namespace, arguments.model.source, facts.objective, facts.takes_best, status)


def _export(result: ExportResult, began: datetime) -> StageStatus:
    return StageStatus(
        name="export",
        state="Complete",
        key=result.key,
        start_time=rfc3339(began),
        completion_time=rfc3339(datetime.now(UTC)),
        cache_hit=result.cache_hit,
    )


def _decoded(kind: type[Shape], manifest: Manifest, key: str) -> Shape:
    try:
        return kind.decode(manifest.result or {})
    except ValidationError as problem:
        message = f"{manifest.kind}/{key}: the result in its manifest can't be read"
        raise StageError(Reason.ARTIFACT_CORRUPT, message) from problem


def _origin(facts: RunFacts) -> Origin:
    """No page in a store names a path of a machine, so in a local run it is the usual one."""
    if STORE_DIRECTORY_VARIABLE not in os.environ:
        return Origin()
    return Origin(f"{LOCAL_RUNS}/{facts.namespace}/{facts.name}/{RESOURCE_FILE}", "")

"""The prepared dataset in the store, and the result that is answered from it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, ValidationError

from lorafinetune.api.problem import first_fault
from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import DatasetStatus, Estimate
from lorafinetune.api.training import Training
from lorafinetune.api.types import Count, Line, Model
from lorafinetune.contract import effort, keys
from lorafinetune.contract.arguments import PrepareArguments, place
from lorafinetune.contract.memory import KEPT_LENGTHS
from lorafinetune.contract.names import source_name
from lorafinetune.contract.outcome import PrepareResult, StageError, TrainResult
from lorafinetune_stages.prepare.inputs import PrepareInputs, shaping_fields, train_key
from lorafinetune_stages.reuse import find_whole
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, commit_manifest, files_digest, find_output
from lorafinetune_stages.store.transfer import download_tree, upload_tree

DATASET: Final = "dataset"
"""Directory of the tokenised rows in the output."""
TRAIN: Final = "train"
HELD_OUT: Final = "validation"
"""Directories in it, one a split, named as LLaMA-Factory looks for them."""
ONLY_SHARD: Final = "data-00000-of-00001.arrow"
"""The file of a split's rows, by datasets' own name."""
REPORT: Final = "report.json"
PAGE: Final = "report.html"
MAX_REPORT_BYTES: Final = 8 * 2**20
MAX_WARNING: Final = 300
"""Bytes, of which a character of Chinese has three."""
MAX_WARNINGS_BYTES: Final = 900
"""All warnings together: the termination message also carries the loss curve of a finished training."""
CUT: Final = "…"

UNCONDITIONAL: Final = "its server has no conditional writes: two runs at once may both believe to be first"

Kind = TypeVar("Kind", bound=Model)


class Prepared(Model):
    """What the manifest keeps of the result: all that follows from the key."""

    template: Line
    dataset: DatasetStatus
    warnings: tuple[Annotated[str, Field(max_length=MAX_WARNING)], ...] = ()
    template_differs: bool = False
    """Whether the template renders conversations otherwise than the model's own: good only if declared."""
    longest: Annotated[tuple[Count, ...], Field(max_length=KEPT_LENGTHS)] = ()
    """Tokens of the longest rows that are trained on, from the longest on."""
    eval_tokens: Count = 0
    """Tokens of all held-out rows."""


def find_prepared(key: str, context: Context) -> Prepared | None:
    """The prepared dataset, where the store has it: its rows are compared by whoever fetches them.

    Raises StageError(ArtifactCorrupt).
    """
    where, store = place("prepared", key), context.store
    manifest = find_whole(context, where, "the report", lambda file: not file.path.startswith(f"{DATASET}/"))
    if manifest is None:
        return None
    return _located(_decode(Prepared, manifest, f"{store.uri}/{where}"), manifest.digest, key, store)


def read_report(key: str, store: Store) -> bytes:
    """The data report of a prepared dataset; empty where there is none, or one of no sensible size."""
    where = f"{place('prepared', key)}/{REPORT}"
    found = store.find(where)
    return (store.read(where, MAX_REPORT_BYTES) or b"") if found and found.size <= MAX_REPORT_BYTES else b""


def commit_prepared(
    directory: Path, prepared: Prepared, inputs: PrepareInputs, lineage: Mapping[str, Any], context: Context
) -> Prepared:
    """Uploads the directory, and makes it the output. Returns what counts: another writer's if that was
    first. prepared: complete but for digest and address of the report."""
    where = place("prepared", inputs.key)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    context.progress.begin("uploading", size, "bytes")
    files = upload_tree(context.store, directory, where, context.progress.advance)
    manifest = commit_manifest(
        context.store,
        where,
        "prepared",
        inputs.key,
        files,
        lineage,
        _located(prepared, files_digest(files), inputs.key, context.store).encode(),
    )
    return _decode(Prepared, manifest, f"{context.store.uri}/{where}")


def result(
    prepared: Prepared,
    trained: TrainResult | None,
    estimate: Estimate | None,
    inputs: PrepareInputs,
    training: Training,
    store: Store,
    cache_hit: bool,
) -> PrepareResult:
    """The stage's result. trained: the finished training, where the store has it; else its estimate."""
    warnings = [*prepared.warnings, *training_warnings(prepared.dataset, training, estimate)]
    if not trained and not store.conditional_writes:
        warnings.append(f"{store.uri}: {UNCONDITIONAL}"[:MAX_WARNING])
    return PrepareResult(
        cache_hit=cache_hit,
        key=inputs.key,
        template=prepared.template,
        train_key=train_key(inputs, training),
        dataset=prepared.dataset,
        warnings=tuple(warnings),
        estimate=estimate,
        trained=trained,
    )


def training_warnings(rows: DatasetStatus, training: Training, estimate: Estimate | None) -> Iterator[str]:
    """What a person should know of how many rows, or tokens, a step has, and of what it costs."""
    size, tokens = keys.resolved_batch_size(training), training.batch_tokens
    if size and rows.rows < size:
        yield f"{rows.rows} training rows are fewer than training.batchSize {size}"
    if tokens and rows.tokens < tokens:
        yield f"{rows.tokens} tokens to train on are fewer than training.batchTokens {tokens}"
    packs = estimate.packs if estimate else None
    if tokens and packs and effort.leaves_room(rows.tokens, packs, tokens):
        full = math.floor(100 * rows.tokens / (packs * tokens))
        yield f"steps have {full}% of training.batchTokens {tokens}: a larger number may fit the rows better"
    if estimate:
        yield from effort.warnings(estimate)


def fetch_rows(key: str, context: Context) -> Path:
    """Downloads the rows of a prepared dataset. Returns their directory."""
    where = place("prepared", key)
    manifest = find_output(context.store, where)
    assert manifest  # noqa: S101 - who calls this has found it
    files = tuple(file for file in manifest.files if file.path.startswith(f"{DATASET}/"))
    target = context.workdir / "prepared"
    context.progress.begin("fetching the prepared rows", sum(file.size for file in files), "bytes")
    rows = manifest.model_copy(update={"files": files})
    download_tree(context.store, where, rows, target, context.progress.advance)
    return target / DATASET


def lineage(inputs: PrepareInputs, arguments: PrepareArguments) -> dict[str, Any]:
    """Everything that shaped the prepared dataset."""
    return {
        "model": arguments.model.encode() | {"source": source_name(arguments.model.source)},
        "datasets": [
            {
                "source": source_name(files.dataset.source),
                "digest": files.manifest.digest,
                "origin": files.manifest.lineage,
            }
            for files in inputs.datasets
        ],
        "template": inputs.template,
        "fields": shaping_fields(arguments),
        "versions": inputs.versions,
    }


def shorten(warnings: Sequence[str]) -> tuple[str, ...]:
    """As many warnings as fit a termination message, and how many more the report has."""
    kept: list[str] = []
    for warning in (_cut(warning) for warning in warnings):
        if sum(len(text.encode()) for text in (*kept, warning)) > MAX_WARNINGS_BYTES:
            break
        kept.append(warning)
    left = len(warnings) - len(kept)
    return (*kept, f"and {left} more, in the report") if left else tuple(kept)


def _cut(warning: str) -> str:
    data = warning.encode()
    if len(data) <= MAX_WARNING:
        return warning
    return data[: MAX_WARNING - len(CUT.encode())].decode(errors="ignore") + CUT


def find_trained(key: str, context: Context) -> TrainResult | None:
    """The finished training at a key, where the store has it. Raises StageError(ArtifactCorrupt)."""
    where = place("trainings", key)
    manifest = find_whole(context, where, "the adapter")
    return _decode(TrainResult, manifest, f"{context.store.uri}/{where}") if manifest else None


def _located(prepared: Prepared, digest: str, key: str, store: Store) -> Prepared:
    """With digest and address of this store, which may have been copied from another."""
    report = f"{store.uri}/{place('prepared', key)}/{REPORT}"
    status = prepared.dataset.model_copy(update={"digest": digest, "report": report})
    return prepared.model_copy(update={"dataset": status})


def _decode(kind: type[Kind], manifest: Manifest, uri: str) -> Kind:
    try:
        return kind.decode(manifest.result or {})
    except ValidationError as problem:
        message = ": ".join((f"{uri}: the result in its manifest can't be read", *first_fault(problem)))
        raise StageError(Reason.ARTIFACT_CORRUPT, message) from problem

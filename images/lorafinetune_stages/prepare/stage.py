"""The order in which prepare does its work: a hit, then the data, then what needs LLaMA-Factory."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorafinetune.api.status import Estimate
from lorafinetune.api.training import Objective
from lorafinetune.contract.arguments import PrepareArguments
from lorafinetune.contract.outcome import PrepareResult, StageError
from lorafinetune_stages.imports import uncollected
from lorafinetune_stages.licences import check_names
from lorafinetune_stages.prepare.basemodel import special_tokens
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.feasibility import Feasibility
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.inputs import PrepareInputs, read_inputs, train_key
from lorafinetune_stages.prepare.merger import Merger
from lorafinetune_stages.prepare.output import (
    DATASET,
    ONLY_SHARD,
    TRAIN,
    Prepared,
    fetch_rows,
    find_prepared,
    find_trained,
    read_report,
    result,
)
from lorafinetune_stages.prepare.proofs import (
    find_estimate,
    keep_estimate,
    keep_page,
    point_to_page,
    proof_key,
)
from lorafinetune_stages.prepare.selection import choose
from lorafinetune_stages.prepare.template_difference import find_difference, mismatch, unseen_mismatch
from lorafinetune_stages.prepare.templates import known_templates
from lorafinetune_stages.prepare.texts import Texts
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.transfer import check_tree, download_tree

if TYPE_CHECKING:
    from lorafinetune_stages.prepare.preflight import Proof

MODEL: Final = "model"
"""Directory of the model's files on the scratch disk, beside those of the datasets by number."""
CHECK: Final = "checking the base model's weights"
PROOF: Final = "proving that it can be trained on"
PROOF_PARTS: Final = 4
"""What takes long to import, the arguments with the tokenizer, the network, and its weights."""


def run(arguments: PrepareArguments, context: Context) -> PrepareResult:
    """The prepared dataset, found or made, and proof that a training on it can begin. Raises StageError."""
    inputs = read_inputs(arguments, context.store)
    check_names(context.store, inputs.model.place, inputs.model.manifest, arguments.publish)
    training_key = train_key(inputs, arguments.training)
    found = find_prepared(inputs.key, context)
    if found and found.template_differs and arguments.template is None:
        raise _differs(inputs, context.store)
    trained = find_trained(training_key, context)
    if found and not trained:
        _check_weights(inputs, context)
    prepared, proof = (found, None) if found else _prepare(arguments, inputs, context)
    tried = proof_key(arguments, training_key)
    estimate = None if trained else _estimate(arguments, inputs, tried, prepared, proof, context)
    made = result(
        prepared, trained, estimate, inputs, arguments.training, context.store, cache_hit=found is not None
    )
    return point_to_page(made, tried, context.store)


def _prepare(
    arguments: PrepareArguments, inputs: PrepareInputs, context: Context
) -> tuple[Prepared, "Proof"]:
    files = context.workdir / "files"
    _fetch(inputs, files, context)
    findings = Findings(arguments.datasets)
    with Corpus(context.workdir / "rows") as corpus:
        objective = arguments.training.objective
        _read(inputs, files, corpus, findings, objective, context)
        repeated = corpus.fingerprints.repeated()
        pools = corpus.pools(without=repeated if arguments.training.deduplicate else ())
        rows = choose(pools, arguments.datasets, arguments.training, corpus.fingerprints.prompts)

        _check_weights(inputs, context)
        # torch, transformers and LLaMA-Factory take long to import, and bad data needs none of them
        context.progress.begin(PROOF, PROOF_PARTS, "steps")
        with uncollected():
            from lorafinetune_stages.prepare.dataset_builder import DatasetBuilder
            from lorafinetune_stages.prepare.preflight import prove

        context.progress.advance(1)
        proof = prove(arguments, inputs, context.store, files / MODEL, context.progress.advance)
        builder = DatasetBuilder(arguments, inputs, corpus, findings, rows, context)
        return builder.make(proof.toolkit), proof


def _estimate(
    arguments: PrepareArguments,
    inputs: PrepareInputs,
    tried: str,
    prepared: Prepared,
    proof: "Proof | None",
    context: Context,
) -> Estimate:
    """What the training will take, found or proven. tried: key of what it is tried with. Raises StageError
    where it can't begin or fit."""
    estimate = find_estimate(inputs.key, tried, context.store)
    if estimate is None:
        proof = proof or _prove(arguments, inputs, context)
        longest = prepared.longest or (arguments.training.cutoff_length,)
        settings_of, rows = proof.settings_of, prepared.dataset
        packs = (
            _count_packs(arguments, inputs, rows.rows, context) if arguments.training.batch_tokens else None
        )
        estimate = Feasibility(
            arguments, proof.shape, settings_of, rows, longest, packs, prepared.eval_tokens
        ).prove()
        keep_page(inputs.key, tried, estimate, arguments, rows, context.store)
    keep_estimate(inputs.key, tried, estimate, context.store)
    return estimate


def _prove(arguments: PrepareArguments, inputs: PrepareInputs, context: Context) -> "Proof":
    """Tries what shapes the training alone, for rows that were prepared before."""
    model, files = context.workdir / MODEL, inputs.model.small_files()
    context.progress.begin("fetching", files.bytes, "bytes")
    download_tree(context.store, inputs.model.place, files, model, context.progress.advance)
    context.progress.begin(PROOF, PROOF_PARTS, "steps")
    with uncollected():
        from lorafinetune_stages.prepare.preflight import prove  # takes as long as above

    context.progress.advance(1)
    return prove(arguments, inputs, context.store, model, context.progress.advance)


def _check_weights(inputs: PrepareInputs, context: Context) -> None:
    """Every byte of them, before a GPU is asked for. Raises DamagedError."""
    weights = inputs.model.weights()
    context.progress.begin(CHECK, weights.bytes, "bytes")
    check_tree(context.store, inputs.model.place, weights, context.progress.advance)


def _count_packs(arguments: PrepareArguments, inputs: PrepareInputs, count: int, context: Context) -> int:
    """How many packs the training will fill with the prepared rows: it is the same function."""
    from lorafinetune_stages.prepare.packs import count_packs  # imports pyarrow

    rows = context.workdir / "output" / DATASET / TRAIN
    if not rows.is_dir():
        rows = fetch_rows(inputs.key, context) / TRAIN
    training = arguments.training
    context.progress.begin("packing", count, "rows")
    shard, size = rows / ONLY_SHARD, training.batch_tokens or 0
    return count_packs(shard, size, training.seed, context.progress.advance)


def _differs(inputs: PrepareInputs, store: Store) -> StageError:
    """As the run that prepared the rows would have said it."""
    different = find_difference(read_report(inputs.key, store))
    return mismatch(inputs.template, different) if different else unseen_mismatch(inputs.template)


def _fetch(inputs: PrepareInputs, root: Path, context: Context) -> None:
    """The model's small files, and the files with rows, from the store below `root`."""
    wanted = [(inputs.model.place, inputs.model.small_files(), root / MODEL)]
    for index, dataset in enumerate(inputs.datasets):
        rows = dataset.manifest.model_copy(update={"files": dataset.files})
        wanted.append((dataset.place, rows, root / str(index)))
    context.progress.begin("fetching", sum(manifest.bytes for _, manifest, _ in wanted), "bytes")
    for place, manifest, target in wanted:
        download_tree(context.store, place, manifest, target, context.progress.advance)


def _read(
    inputs: PrepareInputs,
    root: Path,
    corpus: Corpus,
    findings: Findings,
    objective: Objective,
    context: Context,
) -> None:
    """Every row into the corpus. Raises StageError(DatasetInvalid) where too many are bad."""
    template = known_templates()[inputs.template]
    texts = Texts(special_tokens(context.store, inputs.model, template.turns).union(template.markers))
    total = sum(file.size for dataset in inputs.datasets for file in dataset.files)
    context.progress.begin("reading", total, "bytes")
    merger = Merger(corpus, findings, texts, root, context.progress.advance, objective)
    merger.merge(inputs.datasets)
    context.progress.update(done=total)  # of what is beyond a dataset's maxSamples nothing is read
    findings.judge()

"""Everything that prepare reads, and the two keys that follow from it: cheap, so that a hit is quick."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import PrepareArguments, place
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.datafiles import ROW_SUFFIXES, is_row_file
from lorafinetune_stages.prepare.basemodel import BaseModel, incomplete, read_base_model
from lorafinetune_stages.prepare.templates import resolve_template
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, ManifestFile, find_output

NO_TEMPLATE: Final = "empty"
"""LLaMA-Factory's name of the template that writes nothing: plain texts end as the tokenizer says."""
TOOLCHAIN: Final = ("llamafactory", "transformers", "tokenizers")
"""Distributions whose version shapes the tokens."""


@dataclass(frozen=True)
class DatasetFiles:
    """One dataset in the store. files: those with rows, in the order in which they are read."""

    dataset: Dataset
    place: str
    manifest: Manifest
    files: tuple[ManifestFile, ...]


@dataclass(frozen=True)
class PrepareInputs:
    """versions: of the toolchain, by distribution. key: content address of the prepared dataset."""

    model: BaseModel
    datasets: tuple[DatasetFiles, ...]
    template: str
    versions: dict[str, str]
    key: str


def read_inputs(arguments: PrepareArguments, store: Store) -> PrepareInputs:
    """Raises StageError where an input is not complete, or the template is unknown."""
    model = read_base_model(store, arguments.model)
    datasets = tuple(
        _read_dataset(store, index, dataset, key)
        for index, (dataset, key) in enumerate(zip(arguments.datasets, arguments.dataset_keys, strict=True))
    )
    declared = arguments.template or (NO_TEMPLATE if arguments.training.objective == "pt" else None)
    template = resolve_template(declared, model.config, model.chat_template)
    versions = {name: version(name) for name in TOOLCHAIN}
    reads = {
        "model": model.manifest.digest,
        "datasets": [dataset.manifest.digest for dataset in datasets],
        **versions,
    }
    key = keys.key("prepare", _spec(arguments), reads, {"model.template": template})
    return PrepareInputs(model, datasets, template, versions, key)


def train_key(inputs: PrepareInputs, training: Training) -> str:
    """Content address of the training on the prepared dataset."""
    resolved = {
        "training.precision": keys.resolved_precision(training.precision),
        "training.packing": keys.resolved_packing(training),
    }
    reads = {"prepared": inputs.key, "model": inputs.model.manifest.digest}
    chosen = {"dpo": keys.resolved_dpo(training), "batch_size": keys.resolved_batch_size(training)}
    whole = training.model_copy(update=chosen)
    return keys.key("train", {"training": whole.encode()}, reads, resolved)


def shaping_fields(arguments: PrepareArguments) -> dict[str, Any]:
    """The fields of the resource that shape the prepared dataset, by path."""
    return keys.shaping_fields("prepare", _spec(arguments))


def _spec(arguments: PrepareArguments) -> dict[str, Any]:
    return {
        "datasets": [dataset.encode() for dataset in arguments.datasets],
        "training": arguments.training.encode(),
    }


def _read_dataset(store: Store, index: int, dataset: Dataset, key: str) -> DatasetFiles:
    where = place("datasets", key)
    manifest = find_output(store, where)
    if manifest is None:
        raise incomplete(store, where, f"datasets[{index}].source")
    return DatasetFiles(dataset, where, manifest, _row_files(index, manifest.files))


def _row_files(index: int, files: Sequence[ManifestFile]) -> tuple[ManifestFile, ...]:
    """The files with rows, by name; a dataset of one file may name it as it likes."""
    if len(files) == 1:
        return tuple(files)
    found = [file for file in files if is_row_file(file.path)]
    if not found:
        raise StageError(
            Reason.DATASET_INVALID,
            f"datasets[{index}].source: none of its {len(files)} files is {', '.join(ROW_SUFFIXES)}",
            "Name a file of rows, or a directory of them.",
        )
    return tuple(sorted(found, key=lambda file: file.path))

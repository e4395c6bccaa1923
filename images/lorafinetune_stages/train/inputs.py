"""What the training reads: the base model and the prepared dataset, downloaded and verified."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import TrainArguments, place
from lorafinetune.contract.keys import model_place
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import require
from lorafinetune_stages.prepare.output import DATASET, HELD_OUT, Prepared
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store import Advance
from lorafinetune_stages.store.manifest import Manifest, ManifestFile
from lorafinetune_stages.store.transfer import download_tree

ARROW: Final = ".arrow"
FILES_AT_ONCE: Final = 16
"""As many as a model of twenty gigabytes has, and so none that begins when the others end: what one file
takes beside an import does not fill the network."""


@dataclass(frozen=True)
class TrainInputs:
    """The two inputs, complete in the store. model, prepared: of their files. facts: of the dataset."""

    model: Manifest
    prepared: Manifest
    facts: Prepared
    workdir: Path

    @property
    def model_directory(self) -> Path:
        return self.workdir / "model"

    @property
    def dataset_directory(self) -> Path:
        return self.workdir / DATASET

    @property
    def rows(self) -> Manifest:
        """The prepared dataset without its report."""
        files = tuple(file for file in self.prepared.files if file.path.startswith(f"{DATASET}/"))
        return self.prepared.model_copy(update={"files": files})

    @property
    def held_out(self) -> tuple[ManifestFile, ...]:
        """The rows themselves, without what the library notes beside them."""
        split = f"{DATASET}/{HELD_OUT}/"
        return tuple(f for f in self.prepared.files if f.path.startswith(split) and f.path.endswith(ARROW))

    @property
    def bytes(self) -> int:
        return self.model.bytes + self.rows.bytes


def find_inputs(arguments: TrainArguments, context: Context) -> TrainInputs:
    """Raises StageError(ArtifactCorrupt) where an input is not complete. Nothing is downloaded yet."""
    where = place("prepared", arguments.prepared)
    model = require(context.store, model_place(arguments.model), "the base model")
    prepared = require(context.store, where, "the prepared dataset")
    try:
        facts = Prepared.decode(prepared.result or {})
    except ValidationError as problem:
        message = f"{context.store.uri}/{where}: the result in its manifest can't be read"
        raise StageError(Reason.ARTIFACT_CORRUPT, message) from problem
    return TrainInputs(model, prepared, facts, context.workdir)


def fetch(
    arguments: TrainArguments, context: Context, inputs: TrainInputs, check: Callable[[], None]
) -> None:
    """Downloads the inputs, while LLaMA-Factory is imported, which takes ten seconds and more. check: raises
    where there is no need for them any more."""
    context.progress.begin("downloading the model and the dataset", inputs.bytes, "bytes")

    def advance(count: int) -> None:
        check()
        context.progress.advance(count)

    fetch_inputs(arguments, context, inputs, advance)


def fetch_inputs(arguments: TrainArguments, context: Context, inputs: TrainInputs, advance: Advance) -> None:
    """Downloads both. Raises StageError(ArtifactCorrupt) for a file that is not the manifest's."""
    store, model = context.store, inputs.model_directory
    download_tree(store, model_place(arguments.model), inputs.model, model, advance, FILES_AT_ONCE)
    download_tree(store, place("prepared", arguments.prepared), inputs.rows, inputs.workdir, advance)
    if arguments.training.precision == "fp32":
        compute_in_fp32(model / "config.json")


@contextmanager
def readable(inputs: TrainInputs) -> Iterator[None]:
    """Where something fails meanwhile, and the rows are not any more what was downloaded, that is why: the
    libraries say whatever they first stumble on."""
    try:
        yield
    except Exception as problem:
        is_explained = isinstance(problem, StageError) and problem.reason is not Reason.LOSS_DIVERGED
        fault = "" if is_explained else rows_fault(inputs)
        if not fault:
            raise
        raise StageError(Reason.DATA_UNREADABLE, fault) from problem


def rows_fault(inputs: TrainInputs) -> str:
    """What is wrong with the rows on the disk, or an empty string. Reads all of them."""
    for file in inputs.rows.files:
        try:
            with (inputs.workdir / file.path).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as problem:
            return f"{file.path} can't be read any more ({problem.strerror})"
        if found != file.sha256:
            return f"{file.path} is not what was downloaded any more"
    return ""


def compute_in_fp32(config: Path) -> None:
    """LLaMA-Factory loads weights in the type that the model's configuration names, and computes in it
    unless told to mix precisions; there is no argument for it."""
    value = json.loads(config.read_text())
    value.pop("torch_dtype", None)
    config.write_text(json.dumps(value | {"dtype": "float32"}))

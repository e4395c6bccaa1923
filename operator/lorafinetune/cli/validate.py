"""`lorafinetune validate`: what the operator would say about a file, and at which line."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.sources import LOCAL
from lorafinetune.cli.document import DocumentError, ResourceFile, read
from lorafinetune.cli.fault import field_of, of_check
from lorafinetune.cli.output import Format, emit, output, structured
from lorafinetune.contract.https import ANYWHERE
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.checks import violations
from lorafinetune.core.jobs import Settings


def validate(file: Path, local: bool, form: Format) -> None:
    """Prints that the file is valid, or for a program a list of what is wrong. Raises DocumentError."""
    try:
        given = read_valid(file, local)
        _raise(file, given, missing(given.resource) if local else ())
    except DocumentError as problem:
        if not form.is_data:
            raise
        emit(structured([fault.told for fault in problem.faults], form))
        sys.exit(problem.code)
    if form.is_data:
        emit(structured([], form))
    else:
        output.print(f"{file}: LoRAFineTune {given.resource.metadata.name} is valid")


def read_valid(file: Path, local: bool) -> ResourceFile:
    """What a file holds. Raises DocumentError with everything that is wrong with it.

    local: allow what only local runs can do. Which hosts an installation allows, it alone knows.
    """
    given = read(file)
    settings = Settings(local=local, https=ANYWHERE)
    _raise(file, given, violations(given.resource, settings))
    return given


def missing(resource: LoRAFineTune) -> Iterator[StageError]:
    """Models and datasets that are not on this machine, where they should be."""
    spec = resource.spec
    yield from _missing("spec.model.source", spec.model.source, Reason.MODEL_NOT_FOUND)
    for index, dataset in enumerate(spec.datasets):
        yield from _missing(f"spec.datasets[{index}].source", dataset.source, Reason.DATASET_NOT_FOUND)


def _missing(field: str, source: str, reason: Reason) -> Iterator[StageError]:
    if source.startswith(LOCAL) and not Path(source.removeprefix(LOCAL)).exists():
        hint = "A path is taken from the folder in which the command runs."
        yield StageError(reason, f"{field}: {source} does not exist", hint)


def _raise(file: Path, given: ResourceFile, errors: Iterable[StageError]) -> None:
    if found := [of_check(file, given.line_of(field_of(error)), error) for error in errors]:
        raise DocumentError(found)

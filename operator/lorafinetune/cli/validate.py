"""`lorafinetune validate`: what the operator would say of a file, and at which line."""

import sys
from pathlib import Path

from lorafinetune.cli.document import DocumentError, Given, read
from lorafinetune.cli.fault import field_of, of_check
from lorafinetune.cli.output import Format, emit, output, structured
from lorafinetune.contract.https import ANYWHERE
from lorafinetune.core.checks import CHECKS
from lorafinetune.core.jobs import Settings


def validate(file: Path, local: bool, form: Format) -> None:
    """Prints that the file is valid, or for a program a list of what is wrong. Raises DocumentError."""
    try:
        name = read_valid(file, local).resource.metadata.name
    except DocumentError as problem:
        if not form.is_data:
            raise
        emit(structured([fault.told for fault in problem.faults], form))
        sys.exit(problem.code)
    if form.is_data:
        emit(structured([], form))
    else:
        output.print(f"{file}: LoRAFineTune {name} is valid")


def read_valid(file: Path, local: bool) -> Given:
    """What a file holds. Raises DocumentError with everything that is wrong with it.

    local: allow what only local runs can do. Which hosts an installation allows, it alone knows.
    """
    given = read(file)
    settings = Settings(local=local, https=ANYWHERE)
    found = [error for one in CHECKS if (error := one(given.resource, settings))]
    if found:
        raise DocumentError([of_check(file, given.line_of(field_of(error)), error) for error in found])
    return given

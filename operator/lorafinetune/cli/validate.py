"""`lorafinetune validate`: what the operator would say of a file, and at which line."""

from pathlib import Path

from lorafinetune.cli.document import DocumentError, Given
from lorafinetune.cli.errors import sentence
from lorafinetune.contract.https import ANYWHERE
from lorafinetune.core.checks import CHECKS
from lorafinetune.core.jobs import Settings


def check(file: Path, given: Given, local: bool) -> None:
    """Raises DocumentError with every check that the file does not pass.

    local: allow what only local runs can do. Which hosts an installation allows, it alone knows.
    """
    settings = Settings(local=local, https=ANYWHERE)
    found = [error for one in CHECKS if (error := one(given.resource, settings))]
    if found:
        raise DocumentError([f"{file}:{given.line_of(error.message)}: {sentence(error)}" for error in found])

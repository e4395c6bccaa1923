"""From the name of a run to the file of its page."""

from pathlib import Path
from typing import Final

from lorafinetune.cli.connection import Access
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.named import run_named
from lorafinetune.cli.report.loading import Origin
from lorafinetune.cli.report.page import render
from lorafinetune.cli.report.sources import gather
from lorafinetune.cli.store import Where
from lorafinetune.cli.what import Language

BEGINNING: Final = "<!doctype html>\n<!-- report of lorafinetune -->\n"
"""By which a page of ours is known: only such a one is replaced."""


def report(name: str, to: Path | None, language: Language, access: Access, where: Where) -> Path:
    """Writes the page; returns where it is. Raises CommandError and StageError.

    to: NAME.html in the current directory where it is None.
    """
    resource = run_named(name, access)
    page = BEGINNING + render(gather(resource, where), language, Origin(name, where.directory))
    target = to or Path(f"{resource.metadata.name}.html")
    try:
        _replace(target, page)
    except OSError as problem:
        told = (problem.strerror or "can't be written").lower()
        raise CommandError(f"ConfigInvalid: {target}: {told}. Give another file with --to.") from None
    return target


def _replace(target: Path, page: str) -> None:
    """The page is there whole, or as it was before."""
    if target.exists() and not _is_ours(target):
        message = f"ConfigInvalid: {target} exists already, and is no report. Give another file with --to."
        raise CommandError(message)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _is_ours(target: Path) -> bool:
    with target.open("rb") as file:
        return file.read(len(BEGINNING)) == BEGINNING.encode()

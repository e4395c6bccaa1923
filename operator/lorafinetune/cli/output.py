"""What a command prints: for a person, or for a program with `-o`."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final, TextIO

from rich.cells import cell_len
from rich.console import Console

from lorafinetune.api import GROUP, KIND
from lorafinetune.api.safetext import safe
from lorafinetune.cli import INTERRUPTED
from lorafinetune.cli.errors import CommandError


class _Console(Console):
    """Shows nothing that a terminal obeys, such as the name of a file, and lets the entry point decide what a
    closed pipe means."""

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(safe(each) if isinstance(each, str) else each for each in objects), **how)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


output: Final = _Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
errors: Final = _Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def silence(stream: TextIO) -> None:
    """Leaves nothing to be written to a pipe that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def watched(told: str) -> Iterator[None]:
    """For what has an end of its own to tell: without a reader it was interrupted, and is not done.

    told: what that means. Raises CommandError.
    """
    try:
        yield
    except BrokenPipeError:
        silence(sys.stdout)
        raise CommandError(told, INTERRUPTED) from None


def emit(text: str) -> None:
    """Prints what a program reads, as it is; rich takes a second a megabyte."""
    sys.stdout.write(text)
    sys.stdout.flush()


class Format(StrEnum):
    """How a result is printed."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"

    @property
    def is_data(self) -> bool:
        """Whether a program shall read it."""
        return self in (Format.JSON, Format.YAML)


class RunFormat(StrEnum):
    """How one run is printed."""

    TEXT = Format.TEXT
    JSON = Format.JSON
    YAML = Format.YAML
    NAME = Format.NAME


class FactsFormat(StrEnum):
    """How a command prints results that are not runs."""

    TEXT = Format.TEXT
    JSON = Format.JSON
    YAML = Format.YAML


def printed(runs: Sequence[dict[str, Any]], form: Format) -> str:
    """Runs as kubectl prints them: one as it is, several as a list."""
    if form is Format.NAME:
        return "".join(f"{full_name(run['metadata']['name'])}\n" for run in runs)
    return structured(runs[0] if len(runs) == 1 else as_list(runs), form)


def as_list(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": [without_managers(run) for run in runs]}


def structured(value: Any, form: Format) -> str:
    """JSON or YAML."""
    if form is Format.YAML:
        from lorafinetune.cli.kubeyaml import dump

        return dump(value)
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def full_name(name: str) -> str:
    """The name by which kubectl finds a run."""
    return f"{KIND.lower()}.{GROUP}/{name}"


def without_managers(run: dict[str, Any]) -> dict[str, Any]:
    """The run as kubectl shows it: without the record of who set which field."""
    metadata = {name: value for name, value in run["metadata"].items() if name != "managedFields"}
    return run | {"metadata": metadata}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns that begin under each other, however wide their letters are."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(_padded(row, widths)).rstrip() for row in rows]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]

"""Reads the one resource of a YAML file, or says all that is wrong with it, line by line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.codec import InvalidResourceError, decode
from lorafinetune.api.problem import Problem, display_value
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.fault import Fault, of_problem
from lorafinetune.cli.kubeyaml import Document, YamlError, parse

MAX_BYTES: Final = 1_500_000
"""etcd takes no larger object either."""
HINT: Final = "Give a YAML file that can be read, or - for standard input."
TOO_LARGE: Final = "No cluster takes a larger object; rows belong in files that it names."
INIT: Final = "`lorafinetune init` writes one."
STANDARD_INPUT: Final = Path("/dev/stdin")


class DocumentError(CommandError):
    """A file that holds no valid resource; `faults` say why, each with file and line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True)
class ResourceFile:
    """The resource of a file, and the file's own words."""

    resource: LoRAFineTune
    document: Document

    @property
    def value(self) -> dict[str, Any]:
        """As it was written, without defaults."""
        value: dict[str, Any] = self.document.value
        return value

    @property
    def namespace(self) -> str:
        """That which is written; empty where none is."""
        return self.resource.metadata.namespace if "namespace" in self.value["metadata"] else ""

    def line_of(self, field: str) -> int:
        """The line of a field, or of the nearest one around it."""
        parts = (int(part) if part.isdecimal() else part for part in re.split(r"[].[]+", field))
        return self.document.line(tuple(parts))


def read(path: Path) -> ResourceFile:
    """The resource in a file; `-` is standard input. Raises DocumentError with every problem, each with
    file and line."""
    document = _only_document(path)
    try:
        resource = decode(document.value)
    except InvalidResourceError as invalid:
        raise _error(path, document, invalid.problems) from None
    if document.problems:
        raise _error(path, document)
    return ResourceFile(resource, document)


def read_resource(path: Path) -> LoRAFineTune:
    """The resource in a file, as `read` finds it."""
    return read(path).resource


def _only_document(path: Path) -> Document:
    try:
        documents = parse(_read(path))
    except YamlError as problem:
        raise DocumentError([Fault(path, str(problem), "", problem.line, problem.column)]) from None
    if not documents:
        raise DocumentError([Fault(path, "is empty; a LoRAFineTune is expected", INIT)])
    if len(documents) > 1:
        told = f"holds {len(documents)} documents; one is expected"
        raise DocumentError(
            [Fault(path, told, "Put each into a file of its own.", line=documents[1].line(()))]
        )
    if not isinstance(documents[0].value, dict):
        told = f"holds {display_value(documents[0].value)}; a LoRAFineTune is expected"
        raise DocumentError([Fault(path, told, INIT, line=documents[0].line(()))])
    return documents[0]


def _read(path: Path) -> str:
    try:
        with (STANDARD_INPUT if path == Path("-") else path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as problem:
        told = (problem.strerror or "unreadable").lower()
        raise DocumentError([Fault(path, told, HINT)]) from None
    if len(content) > MAX_BYTES:
        raise DocumentError([Fault(path, f"is larger than {MAX_BYTES} bytes", TOO_LARGE)])
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise DocumentError(
            [Fault(path, f"is not UTF-8 text (byte {problem.start})", "Save it as UTF-8.")]
        ) from None


def _error(path: Path, document: Document, more: Iterable[Problem] = ()) -> DocumentError:
    """Every problem in the order of the file; what is wrong with a field's YAML hides the rest of it."""
    hidden = {problem.path for problem in document.problems}
    problems = [*document.problems, *(problem for problem in more if problem.path not in hidden)]
    problems.sort(key=lambda problem: document.line(problem.path))
    return DocumentError([of_problem(path, document.line(problem.path), problem) for problem in problems])

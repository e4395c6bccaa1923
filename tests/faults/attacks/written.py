"""Attempts that are data: a file each, which says all of it without Python.

Each folder has one kind of them. What its files have besides the fields of `Written` is said where they are
tried: all of that, and nothing else. What is too large to write out stands as `{repeat: x, times: 1000}`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict

from faults.attacks.attempt import Attempt, Surface, Who

HERE: Final = Path(__file__).parent
Folder = Literal[
    "resources", "redirects", "endpoints", "texts", "templates", "configs", "tokenizers", "progress"
]


class Written(BaseModel):
    """attempt: the sentence that the file is named after. refused: part of what the refusal says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    attempt: str
    who: Who
    refused: str


Kind = TypeVar("Kind", bound=Written)


def written(folder: Folder, kind: type[Kind]) -> dict[str, Kind]:
    """Those of a folder, by their sentences."""
    texts = [path.read_text("ascii") for path in sorted((HERE / folder).iterdir())]
    found = [kind.model_validate(_whole(yaml.safe_load(text))) for text in texts]
    return {each.attempt: each for each in found}


def attempts(
    folder: Folder, kind: type[Kind], how: Callable[[Kind], Callable[[Surface], str]]
) -> dict[str, Attempt[Surface]]:
    """Those of a folder, made as `how` says."""
    found = written(folder, kind).items()
    return {sentence: Attempt(each.who, how(each), each.refused) for sentence, each in found}


def _whole(value: Any) -> Any:
    """The value, with what is repeated in it written out."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"repeat", "times"}:
        return value["repeat"] * value["times"]
    return {name: _whole(each) for name, each in value.items()}

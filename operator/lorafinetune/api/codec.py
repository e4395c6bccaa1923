"""Decodes a resource, or says everything that is wrong with it in words a person can act on.

It accepts exactly what the API server accepts: the same schema, and the same CEL rules.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, Final

from lorafinetune.api import API_VERSION, KIND
from lorafinetune.api.crd import schema
from lorafinetune.api.problem import Path, Problem, display_value, printable
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.structural import Schema, broken, compile_rules, unknown_fields, with_defaults

MOST_PROBLEMS: Final = 100
"""Nobody reads more, and a hostile file could hold a million."""


class InvalidResourceError(ValueError):
    """A resource that can't be decoded, with its problems: all of them, or the first hundred."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def decode(value: Mapping[str, Any]) -> LoRAFineTune:
    """The typed resource with its defaults. Raises InvalidResourceError."""
    given = dict(value)
    whole = with_defaults(given, _schema())
    if found := tuple(islice(_problems(given, whole), MOST_PROBLEMS)):
        raise InvalidResourceError(found)
    return LoRAFineTune.decode(whole)


def prepare() -> None:
    """Makes ready what `decode` needs. Whoever answers to somebody does it before the first resource."""
    compile_rules(_schema())


def _problems(given: dict[str, Any], whole: dict[str, Any]) -> Iterator[Problem]:
    if other := tuple(_other_kind(whole)):
        yield from other
    else:
        yield from unknown_fields(given, _schema())
        yield from broken(whole, _schema())


def _other_kind(whole: dict[str, Any]) -> Iterator[Problem]:
    """What is not ours at all is told by this alone, not by a hundred fields that differ."""
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if name not in whole:
            yield Problem((name,), "is required", f"{name}: {wanted}")
        elif whole[name] != wanted:
            given = whole[name] if isinstance(whole[name], str) else display_value(whole[name])
            yield Problem((name,), f"must be {wanted}, not {printable(given)}")


@cache
def _schema() -> Schema:
    return schema()


__all__ = ["InvalidResourceError", "Path", "Problem", "decode", "prepare"]

"""Decodes a resource, or says everything that is wrong with it in words a person can act on.

It accepts exactly what the API server accepts: the same schema, and the same CEL rules.
"""

import difflib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.types import Model, Rule

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it."""

    path: Path
    message: str
    hint: str = ""

    @property
    def where(self) -> str:
        """The path as a person writes it: `spec.datasets[0].source`."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidResourceError(ValueError):
    """A resource that can't be decoded, with every problem that was found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def decode(value: Mapping[str, Any]) -> LoRAFineTune:
    """The typed resource with its defaults. Raises InvalidResourceError."""
    try:
        resource = LoRAFineTune.decode(value)
    except ValidationError as error:
        raise InvalidResourceError(_problems(error)) from None
    if problems := tuple(broken_rules(resource)):
        raise InvalidResourceError(problems)
    return resource


def broken_rules(model: Model) -> Iterator[Problem]:
    """The CEL rules that an object, or an object in it, breaks."""
    yield from _broken(model, model.encode(), ())


def _broken(model: Model, encoded: dict[str, Any], at: Path) -> Iterator[Problem]:
    for rule in model.rules:
        if not _program(rule.expression)(encoded):
            inner = tuple(part for part in rule.field_path.split(".") if part)
            yield Problem(at + inner, rule.message)
    for name, field in type(model).model_fields.items():
        alias = field.alias or name
        value = getattr(model, name)
        if isinstance(value, Model):
            yield from _broken(value, encoded[alias], (*at, alias))
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Model):
                    yield from _broken(item, encoded[alias][index], (*at, alias, index))


@cache
def _program(expression: str) -> Callable[[dict[str, Any]], bool]:
    import cel

    program = cel.compile(expression)
    return lambda encoded: bool(program.execute({"self": encoded}))


def _problems(error: ValidationError) -> tuple[Problem, ...]:
    found: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False):
        path, field, owner = _locate(detail["loc"])
        found.setdefault(path, _explain(path, field, owner, dict(detail)))
    nested = {path[:length] for path in found for length in range(len(path))}
    return tuple(problem for path, problem in found.items() if path not in nested)


def _locate(loc: tuple[str | int, ...]) -> tuple[Path, FieldInfo | None, type[Model]]:
    """The path without the names that pydantic gives to members of a union, and its declaration."""
    owner: type[Model] = LoRAFineTune
    field: FieldInfo | None = None
    path: list[str | int] = []
    for part in loc:
        fields = {info.alias: info for info in owner.model_fields.values()}
        if isinstance(part, int):
            path.append(part)
        elif field is None or _model_in(field.annotation):
            owner = _model_in(field.annotation) or owner if field else owner
            fields = {info.alias: info for info in owner.model_fields.values()}
            field = fields.get(part)
            path.append(part)
            if field is None:
                break
        else:
            if typing.get_origin(field.annotation) is dict:
                path.append(part)
            break
    return tuple(path), field, owner


def _model_in(annotation: Any) -> type[Model] | None:
    """The model that an annotation like `tuple[Dataset, ...]` or `Evaluation | None` is about."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, Model) else None
    return next((model for part in typing.get_args(annotation) if (model := _model_in(part))), None)


def _explain(path: Path, field: FieldInfo | None, owner: type[Model], detail: dict[str, Any]) -> Problem:
    given, context = detail.get("input"), detail.get("ctx", {})
    about = " ".join((field.description or "").split()) if field else ""
    match detail["type"]:
        case "extra_forbidden":
            names = [info.alias or name for name, info in owner.model_fields.items()]
            return Problem(path, "unknown field", _did_you_mean(str(path[-1]), names))
        case "missing":
            return Problem(path, "is required", about)
        case "string_type" if isinstance(given, int | float) and not isinstance(given, bool):
            return Problem(path, "must be a string", f'quote it: "{given}"')
        case "literal_error":
            options = [str(option) for option in typing.get_args(_literal(field))]
            return Problem(
                path, f"{_show(given)} is not one of {', '.join(options)}", _did_you_mean(str(given), options)
            )
        case "string_pattern_mismatch":
            return Problem(path, f"{_show(given)} does not have the right form", about)
        case kind if kind.endswith("_type"):
            return Problem(path, f"has the wrong type: {_type_name(given)} given", about)
        case _:
            return Problem(
                path, f"{_show(given)}: {_lower(detail['msg'])}" if context else _lower(detail["msg"]), about
            )


def _literal(field: FieldInfo | None) -> Any:
    annotation = field.annotation if field else None
    options = [annotation, *typing.get_args(annotation)]
    return next((option for option in options if typing.get_origin(option) is typing.Literal), None)


def _did_you_mean(given: str, options: list[str]) -> str:
    lowered = {option.lower(): option for option in options}
    close = difflib.get_close_matches(given.lower(), lowered, n=1, cutoff=0.6)
    return f"did you mean {lowered[close[0]]}?" if close else f"known are {', '.join(sorted(options))}"


def _show(value: Any) -> str:
    text = str(value)
    return f"{text[:80]}…" if len(text) > 80 else text


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}
    return "nothing" if value is None else names.get(type(value), "a number with a point")


def _lower(message: str) -> str:
    message = message.removeprefix("Input ").removeprefix("String ").removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


__all__ = ["InvalidResourceError", "Problem", "Rule", "broken_rules", "decode"]

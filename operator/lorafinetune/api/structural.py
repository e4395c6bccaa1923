"""Completes and checks a JSON value by a structural schema, step for step as the API server does.

First it refuses what is unknown, then drops nulls and fills in defaults, then validates, then runs
the CEL rules. Doing the same with the same schema is what makes a file that passes here pass there.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from lorafinetune.api.problem import Path, Problem, display_value, suggestion
from lorafinetune.api.types import UNREAD
from lorafinetune.api.values import misfit

Schema = dict[str, Any]

EXACT: Final = 2**53
"""From here a float no longer tells a whole number from the next."""
CEL_ERRORS: Final = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def unknown_fields(value: Any, schema: Schema, at: Path = ()) -> Iterator[Problem]:
    """The fields that the schema does not declare."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, schema.get("items", {}), (*at, index))
    elif isinstance(value, dict) and "properties" in schema:
        for name, child in value.items():
            if name in schema["properties"]:
                yield from unknown_fields(child, schema["properties"][name], (*at, name))
            elif name not in schema.get(UNREAD, ()):
                names = sorted([*schema["properties"], *schema.get(UNREAD, ())])
                yield Problem((*at, name), "unknown field", _known(name, names))


def _known(name: str, names: list[str]) -> str:
    return suggestion(name, names) or f"known: {', '.join(names)}"


def with_defaults(value: Any, schema: Schema) -> Any:
    """A copy without nulls and undeclared fields, with the defaults; a whole 10.0 becomes 10."""
    if isinstance(value, dict):
        return _object_with_defaults(value, schema)
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    exact = isinstance(value, float) and value.is_integer() and abs(value) < EXACT
    return int(value) if exact else value


def _object_with_defaults(value: Schema, schema: Schema) -> Schema:
    given = {name: child for name, child in value.items() if child is not None}
    if "properties" not in schema:
        items = schema.get("additionalProperties", {})
        return {name: with_defaults(child, items) for name, child in given.items()}
    fields = schema["properties"]
    defaults = {name: node["default"] for name, node in fields.items() if "default" in node}
    whole = defaults | given
    return {name: with_defaults(whole[name], node) for name, node in fields.items() if name in whole}


def broken(value: Any, schema: Schema, at: Path = ()) -> Iterator[Problem]:
    """Everything that is wrong with a completed value."""
    if found := misfit(value, schema):
        yield Problem(at, *found)
        return
    inside = list(_broken_inside(value, schema, at))
    yield from inside
    told = {problem.path for problem in inside}
    yield from (
        problem for problem in _broken_rules(value, schema, at, bool(told)) if problem.path not in told
    )


def _broken_inside(value: Any, schema: Schema, at: Path) -> Iterator[Problem]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from broken(item, schema["items"], (*at, index))
        yield from _repeated(value, schema, at)
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield Problem((*at, name), "is required", properties[name].get("description", ""))
        for name, child in value.items():
            yield from broken(child, properties.get(name) or schema["additionalProperties"], (*at, name))


def _repeated(items: list[Any], schema: Schema, at: Path) -> Iterator[Problem]:
    """Items of a list-map whose keys an earlier item has."""
    names = schema.get("x-kubernetes-list-map-keys", ())
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        key = ", ".join(f"{name} {display_value(item.get(name))}" for name in names if isinstance(item, dict))
        if key and first.setdefault(key, index) != index:
            yield Problem((*at, index), f"repeats the {key} of item {first[key]}")


def _broken_rules(value: Any, schema: Schema, at: Path, unsound: bool) -> Iterator[Problem]:
    """The rules that do not hold. That a rule can't make sense of an unsound value is no news."""
    for rule in _rules(schema):
        try:
            holds = _program(rule["rule"])(value)
        except CEL_ERRORS:
            if unsound:
                continue
            raise
        if not holds:
            inner = (part for part in rule.get("fieldPath", "").split(".") if part)
            yield Problem((*at, *inner), rule["message"])


def _rules(schema: Schema) -> Iterator[dict[str, str]]:
    """All but those about an edit: what was there before is not known here."""
    yield from (r for r in schema.get("x-kubernetes-validations", ()) if "oldSelf" not in r["rule"])


def compile_rules(schema: Schema) -> None:
    """Makes ready what checks the rules, which takes half a second: no value has to wait for it then."""
    for rule in _rules(schema):
        _program(rule["rule"])
    inside = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
    for node in inside:
        if isinstance(node, dict):
            compile_rules(node)


@cache
def _program(expression: str) -> Callable[[Any], bool]:
    import cel

    program = cel.compile(expression)
    return lambda value: bool(program.execute({"self": value}))

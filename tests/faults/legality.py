"""What the schema of the CRD alone says of a spec, apart from the API server and from our decoder.

Rules in CEL are not known here: they may refuse what the schema allows, in their own words.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
INT_OR_STRING: Final = (int, str)
KNOWN: Final = frozenset(
    {"type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems"}
    | {"maxProperties", "properties", "additionalProperties", "items", "required", "default", "description"}
    | {"x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
    | {"x-kubernetes-validations"}
)
CAUSES: Final = re.compile(r"(?:^|[ \[])(?=spec[.\[]\S*: |spec: )")
"""Before each cause of a refusal."""
UNSURE: Final = "evaluating rule"
"""Of the words of a rule that could not be evaluated."""


def illegal(value: Any, schema: Schema, at: str = "spec") -> Iterator[str]:
    """Paths, as the API server writes them, of what the schema does not allow."""
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    kinds = TYPES[schema["type"]] if "type" in schema else INT_OR_STRING
    if not isinstance(value, kinds) or isinstance(value, bool) != (kinds == (bool,)):
        yield at
    elif isinstance(value, dict):
        yield from _of_object(value, schema, at)
    elif isinstance(value, list):
        yield from _of_list(value, schema, at)
    elif not _fits(value, schema):
        yield at


def misjudged(refusal: str | None, paths: list[str], rules: frozenset[str]) -> str | None:
    """What is wrong with the API server's answer to a spec. refusal: its words; None where it took it.
    paths: what is illegal in it. rules: the messages of all rules."""
    if refusal is None:
        return f"accepted, with an illegal {paths[0]}" if paths else None
    if paths:
        named = any(f"{path}:" in refusal or f'"{path}"' in refusal for path in paths)
        return None if named else f"refused without a word of {paths[0]}: {refusal}"
    are_rules = all(any(rule in cause for rule in rules) for cause in CAUSES.split(refusal)[1:])
    if are_rules and UNSURE not in refusal and CAUSES.search(refusal):
        return None
    return f"refused by no rule, though it is legal: {refusal}"


def rules_of(schema: Schema) -> frozenset[str]:
    """The messages of all rules in it."""
    inside = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
    own = {rule["message"] for rule in schema.get("x-kubernetes-validations", ())}
    return frozenset(own.union(*(rules_of(node) for node in inside if isinstance(node, Mapping))))


def _of_object(value: Mapping[str, Any], schema: Schema, at: str) -> Iterator[str]:
    """A null counts as nothing."""
    fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    given = {name: child for name, child in value.items() if child is not None}
    for name in schema.get("required", ()):
        if name not in given and "default" not in fields[name]:
            yield f"{at}.{name}"
    if len(given) > schema.get("maxProperties", len(given)):
        yield at
    for name, child in given.items():
        if name in fields or others:
            yield from illegal(child, fields.get(name) or others, f"{at}.{name}")
        else:
            yield f"{at}.{name}"


def _of_list(value: list[Any], schema: Schema, at: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield at
    seen = []
    for number, item in enumerate(value):
        yield from illegal(item, schema["items"], f"{at}[{number}]")
        keys = [
            item.get(key) for key in schema.get("x-kubernetes-list-map-keys", ()) if isinstance(item, dict)
        ]
        if keys and keys in seen:
            yield f"{at}[{number}]"
        seen.append(keys)


def _fits(value: Any, schema: Schema) -> bool:
    if value not in schema.get("enum", [value]):
        return False
    if isinstance(value, str):
        is_long_enough = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return is_long_enough and re.search(schema.get("pattern", ""), value) is not None
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))

"""The building blocks of the resource: a strict base model and bounded scalars.

Every scalar has bounds, because an unbounded field makes CEL rules too costly for the API server
and gives a hostile author room. Decimals are strings: Kubernetes APIs ban floats.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True)
class Rule:
    """One CEL rule, run by the API server and by our own decoder: there is no second wording. One that names
    `oldSelf` is about an edit, which the decoder does not see."""

    expression: str
    message: str
    field_path: str = ""

    def encode(self) -> dict[str, str]:
        rule = {"rule": self.expression, "message": self.message}
        return rule | ({"fieldPath": self.field_path} if self.field_path else {})


@dataclass(frozen=True, eq=False)
class SchemaExtra:
    """Adds Kubernetes' own keywords to the JSON schema of the type that it annotates."""

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(core_schema) | dict(self.keywords)


def list_map(*keys: str) -> SchemaExtra:
    """Marks a list as a map keyed by these fields, so that server-side apply merges by item."""
    return SchemaExtra({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


FORM: Final = "x-form"
"""Keyword of our own: what a text looks like, for error messages."""
UNREAD: Final = "x-unread"
"""Keyword of our own: names of fields that exist, but that nobody here reads or checks."""


def form(words: str) -> SchemaExtra:
    """Says what a text must be where its pattern would: the end of "must be …"."""
    return SchemaExtra({FORM: words})


def keyed_by(pattern: str, longest: int, words: str, holder: str, path: str) -> Rule:
    """Bounds the keys of a map: structural schemas have no `propertyNames`."""
    return Rule(
        f"{holder}.all(key, size(key) <= {longest} && key.matches('{pattern}'))",
        f"every key must be {words}, of at most {longest} characters",
        path,
    )


def is_time(text: str) -> bool:
    """Whether a text of the form TIME_PATTERN is a day and a time that exist."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _existing_time(text: str) -> str:
    if not is_time(text):
        raise ValueError("no such day or time")
    return text


class Decimal:
    """Marks a string that holds a number: keys compare its value, not its spelling."""


INT_OR_STRING = SchemaExtra({"x-kubernetes-int-or-string": True})

DECIMAL_PATTERN = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?([eE]-?[0-9]{1,2})?$"
FRACTION_PATTERN = r"^(0(\.[0-9]{1,12})?|1(\.0{1,12})?|[1-9](\.[0-9]{1,12})?[eE]-(0?[1-9]|[1-9][0-9]))$"
LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"

TIME_PATTERN = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z$"

DecimalString = Annotated[
    str, Field(pattern=DECIMAL_PATTERN, max_length=32), form('a number like "3", "0.5" or "1e-4"'), Decimal()
]
Fraction = Annotated[
    str, Field(pattern=FRACTION_PATTERN, max_length=32), form('a number from 0 to 1, like "0.1"'), Decimal()
]
"""A number from 0 to 1."""
Label = Annotated[
    str, Field(pattern=LABEL_PATTERN, max_length=63), form("a name of lowercase letters, digits and -")
]
"""An RFC 1123 label."""
LabelValue = Annotated[
    str,
    Field(pattern=LABEL_VALUE_PATTERN, max_length=63),
    form("the value of a label: letters, digits, -, _ and ."),
]
"""The value of a label, or of a taint."""
Subdomain = Annotated[
    str,
    Field(pattern=SUBDOMAIN_PATTERN, max_length=253),
    form("a name of lowercase letters, digits, - and ."),
]
"""An RFC 1123 subdomain: the name of a Kubernetes object."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things, or of bytes."""
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
Quantity = Annotated[
    Annotated[int, Field(ge=0, le=2**53)] | Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=24)],
    INT_OR_STRING,
    form("a quantity like 8, 500m or 64Gi"),
]
"""A Kubernetes quantity: `8`, `500m`, `64Gi`."""
Text = Annotated[str, Field(max_length=4096)]
Line = Annotated[str, Field(max_length=256)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", max_length=64), form("a sha256 of 64 hex digits")]
"""A sha256 in hexadecimal."""
Time = Annotated[
    str,
    Field(pattern=TIME_PATTERN, max_length=40),
    AfterValidator(_existing_time),
    SchemaExtra({"format": "date-time"}),
    form("a time in UTC like 2026-01-31T12:00:00Z"),
]
"""RFC 3339 in UTC."""


class Model(BaseModel):
    """Base of every object on the wire: camelCase, immutable, nothing unknown, nothing coerced."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        rules = [rule.encode() for rule in cls.rules]
        return handler(core_schema) | ({"x-kubernetes-validations": rules} if rules else {})

    def encode(self) -> dict[str, Any]:
        """The object as JSON types with camelCase names; absent fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def decode(cls, value: Mapping[str, Any]) -> Self:
        """The typed object. Raises pydantic's ValidationError; rules are checked by `codec`."""
        return cls.model_validate_json(json.dumps(value))

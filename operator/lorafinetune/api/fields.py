"""Walks the declarations of the typed models, leaf by leaf."""

import typing
from collections.abc import Iterator
from types import GenericAlias, UnionType
from typing import Annotated, Any, Union

from pydantic.fields import FieldInfo

from lorafinetune.api.types import Model


def walk(model: type[Model], at: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf field below a model, with its path on the wire: `datasets[].clean.remove`."""
    for name, field in model.model_fields.items():
        path = f"{at}.{field.alias or name}" if at else str(field.alias or name)
        inner = model_in(field.annotation)
        if inner is None:
            yield path, field
        else:
            yield from walk(inner, f"{path}[]" if _is_list(field.annotation) else path)


def model_in(annotation: Any) -> type[Model] | None:
    """The model that an annotation like `tuple[Dataset, ...]` or `Evaluation | None` is about."""
    if isinstance(annotation, type) and not isinstance(annotation, GenericAlias):
        return annotation if issubclass(annotation, Model) else None
    return next((model for part in typing.get_args(annotation) if (model := model_in(part))), None)


def is_marked(field: FieldInfo, mark: type) -> bool:
    """Whether a field's type carries a mark, like `Decimal`, at any depth."""
    return _has_mark(field.metadata, mark) or _annotated_with(field.annotation, mark)


def _annotated_with(annotation: Any, mark: type) -> bool:
    return _has_mark(getattr(annotation, "__metadata__", ()), mark) or any(
        _annotated_with(part, mark) for part in typing.get_args(annotation)
    )


def _has_mark(metadata: typing.Iterable[Any], mark: type) -> bool:
    return any(isinstance(item, mark) for item in metadata)


def _is_list(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin in (Annotated, Union, UnionType):
        return any(_is_list(part) for part in typing.get_args(annotation))
    return origin is tuple

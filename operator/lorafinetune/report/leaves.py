"""Nested values as rows of a table."""

from collections.abc import Mapping
from typing import Any


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """The leaves of a nested value by their paths, like `datasets[0].source`."""
    if isinstance(value, Mapping):
        inner = ((f"{at}.{name}" if at else str(name), child) for name, child in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{at}[{index}]", child) for index, child in enumerate(value))
    else:
        return {} if value is None else {at: value}
    return {path: leaf for name, child in inner for path, leaf in flat(child, name).items()}

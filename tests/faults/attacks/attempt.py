"""One attempt: who tries it, how, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Surface = TypeVar("Surface")

Who = Literal[
    "the author of a model",
    "the author of a dataset",
    "whoever runs a hub",
    "whoever runs a web server",
    "whoever runs an S3 server",
    "whoever writes to the store",
    "a user of the namespace",
    "a pod of the namespace",
    "a stranger in the cluster",
]


@dataclass(frozen=True)
class Attempt(Generic[Surface]):
    """try_: makes the attempt, and gives what whoever reads the resource, a log or a terminal is told.
    refusal: part of that."""

    who: Who
    try_: Callable[[Surface], str]
    refusal: str

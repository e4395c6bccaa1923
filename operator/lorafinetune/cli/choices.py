"""Values that a person can give to options. They have a module of their own, so that a command starts
quickly: the code that acts on them is slow to import."""

from enum import StrEnum
from typing import Final


class OutputKind(StrEnum):
    """Which output is fetched."""

    MERGED = "merged"
    ADAPTER = "adapter"


FETCHED: Final = {OutputKind.MERGED: "merged model", OutputKind.ADAPTER: "adapter"}
"""What a person calls them."""


class Sort(StrEnum):
    """What `list` is sorted by: names from A to Z, everything else from most to least."""

    NAME = "name"
    AGE = "age"
    GPU_SECONDS = "gpu-seconds"

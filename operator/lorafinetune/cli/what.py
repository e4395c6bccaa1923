"""What a person can name: apart from what does it, so that a command starts quickly."""

from enum import StrEnum
from typing import Final


class What(StrEnum):
    """Which output is fetched."""

    MERGED = "merged"
    ADAPTER = "adapter"


FETCHED: Final = {What.MERGED: "merged model", What.ADAPTER: "adapter"}
"""What a person calls them."""


class Sort(StrEnum):
    """By what the list is sorted: names from A to Z, all else from most to least."""

    NAME = "name"
    AGE = "age"
    GPU_SECONDS = "gpu-seconds"

"""What a person can name: apart from what does it, so that a command starts quickly."""

from enum import StrEnum


class What(StrEnum):
    """Which output is fetched."""

    MERGED = "merged"
    ADAPTER = "adapter"


class Sort(StrEnum):
    """By what the list is sorted: names from A to Z, all else from most to least."""

    NAME = "name"
    AGE = "age"
    GPU_SECONDS = "gpu-seconds"

"""The outputs that a person can name."""

from enum import StrEnum


class What(StrEnum):
    """Which output is fetched."""

    MERGED = "merged"
    ADAPTER = "adapter"

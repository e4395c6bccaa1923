"""Kubernetes quantities as numbers."""

from typing import Final

SUFFIXES: Final = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
"""Of quantities, as `api.types.QUANTITY_PATTERN` allows them."""


def amount(quantity: str | int) -> float:
    """The number that a valid quantity like `500m`, `64Gi` or `8` stands for."""
    text = str(quantity)
    digits = text.rstrip("mkKMGTi")
    return float(digits) * SUFFIXES[text[len(digits) :]]

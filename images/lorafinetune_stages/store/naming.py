"""Which names may be keys: both stores refuse the same ones, so a run moves between them unchanged.

A key is joined to a directory or to a prefix, and may come from a manifest or from somebody else's
bucket. A key that could leave the store, hide in it, or differ between the two is refused, never mended.
"""

import unicodedata
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

RESERVED: Final = ".lorafinetune"
"""The segment that the stores keep for themselves: no key contains it, and no listing shows it."""
MAX_KEY_BYTES: Final = 900
"""S3 allows 1,024 with the store's own prefix before the key."""
MAX_SEGMENT_BYTES: Final = 255
"""The longest file name of the usual file systems."""


def check_key(key: str, uri: str) -> str:
    """The key itself. Raises StageError(ConfigInvalid) where it can't be one; uri: of the store."""
    if fault := key_fault(key):
        raise StageError(Reason.CONFIG_INVALID, f"{uri}: {quoted(key)} can't be the name of a file: {fault}")
    return key


def key_fault(key: str) -> str:
    """What is wrong with a key, or an empty string."""
    segments = key.split("/")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in key):
        return "it has a control character"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"it has more than {MAX_KEY_BYTES} bytes"
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        return f"a part of it has more than {MAX_SEGMENT_BYTES} bytes"
    return next((fault for fault in map(_segment_fault, segments) if fault), "")


def is_reserved(key: str) -> bool:
    """Whether the object is one of the store's own, which nobody else sees."""
    return RESERVED in key.split("/")


def quoted(key: str) -> str:
    """A key as it may stand in a message: short, and without control characters."""
    return ascii(key if len(key) <= 100 else key[:100] + "…") if not key.isprintable() else f"'{key[:100]}'"


def printable(key: str) -> str:
    """The same without quotes, where it needs none."""
    return key if key.isprintable() and len(key) <= 100 else quoted(key)


def _segment_fault(segment: str) -> str:
    if segment in (".", ".."):
        return f"it has the part '{segment}'"
    if segment == RESERVED:
        return f"the part '{RESERVED}' is kept for the store itself"
    return "" if segment else "it is empty, or has an empty part"

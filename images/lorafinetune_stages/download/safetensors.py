"""The header of a safetensors file, checked while the file streams by.

A later stage maps the file into memory and believes its header. A file that is cut, damaged or made to
exhaust memory is refused here, before gigabytes are kept.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from lorafinetune_stages.base import MAX_HEADER_BYTES

LENGTH_BYTES: Final = 8


class HeaderError(ValueError):
    """What is wrong with a header, as a predicate."""


def checked(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The chunks of a safetensors file of `size` bytes, unchanged.

    Raises HeaderError as soon as the header is seen to be broken.
    """
    seen, done = bytearray(), False
    for chunk in chunks:
        if not done:
            seen += chunk
            done = _header_is_good(seen, size)
        if done:
            seen = bytearray()
        yield chunk
    if not done:
        raise HeaderError("ends inside its header")


def _header_is_good(seen: bytearray, size: int) -> bool:
    """Whether the whole header is there, and good; False as long as it isn't all there."""
    if len(seen) < LENGTH_BYTES:
        return False
    length = int.from_bytes(seen[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(f"has a header of {length} bytes; {MAX_HEADER_BYTES} are the limit")
    if LENGTH_BYTES + length > size:
        raise HeaderError(f"has a header of {length} bytes in a file of {size}")
    if len(seen) < LENGTH_BYTES + length:
        return False
    _check_tensors(bytes(seen[LENGTH_BYTES : LENGTH_BYTES + length]), size - LENGTH_BYTES - length)
    return True


def _check_tensors(header: bytes, space: int) -> None:
    """Every byte after the header belongs to one tensor: so a file that was cut or padded is seen."""
    try:
        tensors: dict[str, Any] = json.loads(header)
        tensors.pop("__metadata__", None)
        extents = sorted(_extent(tensor["data_offsets"]) for tensor in tensors.values())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
        raise HeaderError("has a header that is not that of a safetensors file") from problem
    end = 0
    for begin, stop in extents:
        if begin != end or stop < begin:
            raise HeaderError("has a header whose tensors overlap, or leave gaps")
        end = stop
    if end != space:
        raise HeaderError(f"has {space} bytes for tensors of {end} bytes")


def _extent(offsets: Any) -> tuple[int, int]:
    begin, stop = offsets
    if type(begin) is not int or type(stop) is not int:
        raise TypeError("an offset is no integer")
    return begin, stop

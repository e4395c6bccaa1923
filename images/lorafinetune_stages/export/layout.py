"""How the tensors of a model are laid out in safetensors files: read from the base, planned for the result.

A safetensors file begins with the length of its header, which is JSON; so sizes are known before the
weights are fetched.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import INDEX, MAX_HEADER_BYTES, WHOLE
from lorafinetune_stages.store import Store

SUFFIX: Final = ".safetensors"
LENGTH: Final = struct.Struct("<Q")
WEIGHTS: Final = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors(\.index\.json)?")
UNITS: Final = {"MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the base. file: the file that holds it, from the byte `begin` on. bytes: of its data.
    dtype: as safetensors names it."""

    name: str
    file: str
    begin: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def alignment(self) -> int:
        """Bytes of one element: loaders map the file, and find it only at a multiple of them."""
        return max(self.bytes // max(math.prod(self.shape), 1), 1)


@dataclass(frozen=True)
class Shard:
    """A file of the result, with its tensors in the order of the base."""

    name: str
    tensors: tuple[Tensor, ...]

    def header(self) -> bytes:
        """What comes before the data of the tensors."""
        end, entries = 0, {}
        for tensor in self.tensors:
            begin, end = end, end + tensor.bytes
            entries[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": (begin, end),
            }
        value = {"__metadata__": {"format": "pt"}} | entries
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % LENGTH.size)
        return LENGTH.pack(len(text)) + text


def is_weights(path: str) -> bool:
    """Whether loaders take a file of that path for weights of the model."""
    return WEIGHTS.fullmatch(path) is not None


def shard_size(text: str) -> int:
    """Bytes in a size like `2GB`, as safetensors' users count them: decimal."""
    return int(text[:-2]) * UNITS[text[-2:]]


def weight_files(names: Iterable[str], index: Mapping[str, Any] | None) -> list[str]:
    """The files that hold the weights: those in the index, where there is one, so that a second copy of
    the weights in another layout is not taken for a part of the model.

    Raises StageError(ModelUnsupported) where one is missing.
    """
    wanted = sorted(set(weight_map(index).values())) if index is not None else [WHOLE]
    if missing := [file for file in wanted if file not in set(names)]:
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: the base model has no {missing[0]}")
    return wanted


def weight_map(index: Mapping[str, Any]) -> Mapping[str, str]:
    """File by tensor. Raises StageError(ModelUnsupported)."""
    found = index.get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: {INDEX} has no weight_map")
    return found


def read_tensors(
    store: Store, place: str, names: Iterable[str], index: Mapping[str, Any] | None
) -> list[Tensor]:
    """The tensors of a model, in the order in which its files hold them. names: of its files. index: what it
    has under INDEX.

    Raises StageError(ModelUnsupported).
    """
    places = {} if index is None else weight_map(index)
    tensors: list[Tensor] = []
    for file in weight_files(names, index):
        with store.open(f"{place}/{file}") as stream:
            tensors += [t for t in read_header(stream, file) if places.get(t.name, file) == file]
    return tensors


def read_header(stream: BinaryIO, file: str) -> list[Tensor]:
    """The tensors in a safetensors file, in the order of their data.

    Raises StageError(ModelUnsupported) where it is no such file.
    """
    try:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        if length > MAX_HEADER_BYTES:
            raise ValueError("the header is too long")
        header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        start = LENGTH.size + length
        tensors = [_tensor(name, file, start, entry) for name, entry in header.items()]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, struct.error) as problem:
        message = f"model.source: {file} is no safetensors file: {problem}"
        raise StageError(Reason.MODEL_UNSUPPORTED, message) from problem
    return _apart(sorted(tensors, key=lambda tensor: (tensor.begin, tensor.bytes)), start)


def _tensor(name: str, file: str, start: int, entry: Any) -> Tensor:
    """start: where the data of the file begin."""
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(number) is int and number >= 0 for number in (begin, end - begin, *shape)):
        raise ValueError(f"{name} has no extent")
    return Tensor(name, file, start + begin, end - begin, str(entry["dtype"]), shape)


def _apart(tensors: list[Tensor], end: int) -> list[Tensor]:
    """The tensors, none of which begins before the one in front of it has ended."""
    for tensor in tensors:
        if tensor.begin < end:
            message = f"model.source: {tensor.file} is no safetensors file: its tensors overlap"
            raise StageError(Reason.MODEL_UNSUPPORTED, message)
        end = tensor.begin + tensor.bytes
    return tensors


def plan_shards(tensors: Sequence[Tensor], limit: int) -> list[Shard]:
    """Cuts the tensors, in their order, into files of at most `limit` bytes of data; a larger tensor has
    a file of its own, and so has one that would lie where it can't be mapped."""
    groups: list[list[Tensor]] = []
    used = 0
    for tensor in tensors:
        if not groups or used + tensor.bytes > limit or used % tensor.alignment:
            groups.append([])
            used = 0
        groups[-1].append(tensor)
        used += tensor.bytes
    if len(groups) == 1:
        return [Shard(WHOLE, tuple(groups[0]))]
    name = "model-{:05d}-of-{:05d}" + SUFFIX
    return [
        Shard(name.format(number, len(groups)), tuple(group)) for number, group in enumerate(groups, start=1)
    ]


def index_text(shards: Sequence[Shard]) -> str:
    """The index by which a model of several files is loaded."""
    weight_map = {tensor.name: shard.name for shard in shards for tensor in shard.tensors}
    size = sum(tensor.bytes for shard in shards for tensor in shard.tensors)
    return (
        json.dumps(
            {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}, indent=2
        )
        + "\n"
    )

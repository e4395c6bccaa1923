"""How the tensors of a model are laid out in safetensors files: read from the base, planned for the result.

A safetensors file begins with the length of its header, which is JSON; so sizes are known before the
weights are fetched.
"""

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

SUFFIX: Final = ".safetensors"
INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
MAX_HEADER_BYTES: Final = 100 * 2**20
LENGTH: Final = struct.Struct("<Q")
WEIGHTS: Final = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors(\.index\.json)?")
UNITS: Final = {"MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the base. file: the file that holds it. bytes: of its data."""

    name: str
    file: str
    bytes: int


@dataclass(frozen=True)
class Shard:
    """A file of the result, with its tensors in the order of the base."""

    name: str
    tensors: tuple[Tensor, ...]


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
    weight_map = {"": SINGLE} if index is None else index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: {INDEX} has no weight_map")
    wanted = sorted(set(weight_map.values()))
    if missing := [file for file in wanted if file not in set(names)]:
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: the base model has no {missing[0]}")
    return wanted


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
        places = {name: entry["data_offsets"] for name, entry in header.items()}
        ordered = sorted(places, key=lambda name: tuple(places[name]))
        return [Tensor(name, file, places[name][1] - places[name][0]) for name in ordered]
    except (AttributeError, KeyError, TypeError, ValueError, struct.error) as problem:
        message = f"model.source: {file} is no safetensors file: {problem}"
        raise StageError(Reason.MODEL_UNSUPPORTED, message) from problem


def plan_shards(tensors: Sequence[Tensor], limit: int) -> list[Shard]:
    """Cuts the tensors, in their order, into files of at most `limit` bytes of data; a larger tensor has
    a file of its own."""
    groups: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if not groups or tensor.bytes > room:
            groups.append([])
            room = limit
        groups[-1].append(tensor)
        room -= tensor.bytes
    if len(groups) == 1:
        return [Shard(SINGLE, tuple(groups[0]))]
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

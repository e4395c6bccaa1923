"""The merge as a stream: a file of the base comes, its tensors are merged, a file of the result goes.

At no time is more in memory than the weights of one shard, or more on the disk than one file of the base
and one of the result.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lorafinetune_stages.export.layout import Shard, Tensor
from lorafinetune_stages.export.merging import Adapter
from lorafinetune_stages.store import Advance, Store
from lorafinetune_stages.store.manifest import Manifest, ManifestFile
from lorafinetune_stages.store.transfer import download_tree


class Base:
    """The weights of the base model, a file at a time. To be used in the order of its files."""

    def __init__(self, store: Store, place: str, manifest: Manifest, scratch: Path) -> None:
        self._store = store
        self._place = place
        self._manifest = manifest
        self._scratch = scratch
        self._file = ""
        self._opened = ExitStack()
        self._tensors: Any = None

    def read(self, tensor: Tensor) -> torch.Tensor:
        if tensor.file != self._file:
            self._open(tensor.file)
        weight: torch.Tensor = self._tensors.get_tensor(tensor.name)
        return weight

    def close(self) -> None:
        self._opened.close()
        self._tensors = None
        if self._file:
            (self._scratch / self._file).unlink()
        self._file = ""

    def _open(self, file: str) -> None:
        self.close()
        only = tuple(entry for entry in self._manifest.files if entry.path == file)
        download_tree(
            self._store, self._place, self._manifest.model_copy(update={"files": only}), self._scratch
        )
        self._file = file
        self._tensors = self._opened.enter_context(safe_open(self._scratch / file, "pt"))


def merge_shards(
    base: Base,
    adapter: Adapter,
    shards: list[Shard],
    store: Store,
    place: str,
    scratch: Path,
    advance: Advance,
) -> Iterator[ManifestFile]:
    """Merges and uploads one file of the result after the other, and yields what it uploaded."""
    layers = adapter.match(tensor.name for shard in shards for tensor in shard.tensors)
    for shard in shards:
        path = scratch / shard.name
        save_file(_merged(base, adapter, layers, shard, advance), path, metadata={"format": "pt"})
        stored = store.upload(path, f"{place}/{shard.name}")
        path.unlink()
        yield ManifestFile(path=shard.name, size=stored.size, sha256=stored.sha256)
    base.close()


def _merged(
    base: Base, adapter: Adapter, layers: Mapping[str, str], shard: Shard, advance: Advance
) -> dict[str, torch.Tensor]:
    tensors = {}
    for tensor in shard.tensors:
        weight = base.read(tensor)
        layer = layers.get(tensor.name)
        tensors[tensor.name] = weight if layer is None else adapter.merge(weight, layer)
        advance(tensor.bytes)
    return tensors

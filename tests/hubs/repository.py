"""What the local hubs serve: repositories as plain values, and small models that are whole."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hubs.server import Server

COMMIT = hashlib.sha1(b"the newest commit", usedforsecurity=False).hexdigest()
OLD_COMMIT = hashlib.sha1(b"the commit before", usedforsecurity=False).hexdigest()
CONFIG: Mapping[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@dataclass(frozen=True)
class Repository:
    """One repository. commits: by branch or tag. token: what a reader must send. gated: whether its
    terms must be accepted."""

    files: Mapping[str, bytes]
    commits: Mapping[str, str] = field(
        default_factory=lambda: {"main": COMMIT, "master": COMMIT, "v1.0": OLD_COMMIT}
    )
    token: str | None = None
    gated: bool = False

    def commit_of(self, revision: str) -> str | None:
        return revision if revision in self.commits.values() else self.commits.get(revision)


class Hub(Server):
    """A server of repositories. repositories: by `models/OWNER/NAME` or `datasets/OWNER/NAME`. cdn: URL of
    the host with the large files; empty: they are here. tokens: those that belong to somebody."""

    def __init__(self, repositories: Mapping[str, Repository], cdn: str = "") -> None:
        super().__init__()
        self.repositories = dict(repositories)
        self.cdn = cdn
        self.tokens = {"hf_good", "ms-good"}


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def blob_id(body: bytes) -> str:
    """Git's id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def safetensors(**tensors: int) -> bytes:
    """A safetensors file with float32 tensors of so many elements, with content of their own."""
    header, offset = {}, 0
    for name, count in tensors.items():
        header[name] = {"dtype": "F32", "shape": [count], "data_offsets": [offset, offset + 4 * count]}
        offset += 4 * count
    encoded = json.dumps(header).encode()
    content = ("".join(tensors).encode() * (offset + 1))[:offset]
    return struct.pack("<Q", len(encoded)) + encoded + content


def model(
    config: Mapping[str, Any] = CONFIG, without: tuple[str, ...] = (), **files: bytes
) -> dict[str, bytes]:
    """A whole model of one shard, some files left out and some added; `__` in a name stands for a dot."""
    whole = {
        "config.json": json.dumps(config).encode(),
        "generation_config.json": b"{}",
        "tokenizer.json": b'{"model": {}}',
        "tokenizer_config.json": b"{}",
        "model.safetensors": safetensors(weight=50_000),
        "LICENSE": b"Apache License 2.0",
        "README.md": b"# A model",
    }
    whole |= {name.replace("__", "."): body for name, body in files.items()}
    return {name: body for name, body in whole.items() if name not in without}


def sharded_model(*shards: str, index_names: tuple[str, ...] | None = None) -> dict[str, bytes]:
    """A model of several shards, and the index that names them, or others."""
    named = index_names or shards
    index = {"weight_map": {f"layer{number}": shard for number, shard in enumerate(named)}}
    files = model(without=("model.safetensors",))
    files |= {shard: safetensors(**{f"layer{number}": 1000}) for number, shard in enumerate(shards)}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}

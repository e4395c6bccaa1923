"""A model whose files hold no code, and mean harm."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from faults.attacks.attempt import Attempt
from faults.attacks.written import Written, attempts
from hubs.repository import CONFIG, model, sharded_model
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import MAX_HEADER_BYTES
from stages import download_builders, prepare_builders
from stages.download_builders import write
from stages.prepare_builders import TINY_MODEL, alpaca, json_lines


@dataclass
class Desk:
    directory: Path

    def downloads(self, files: Mapping[str, bytes]) -> str:
        """What the download says of such a model."""
        source = f"file://{write(self.directory / 'model', files)}"
        bench = download_builders.Bench(self.directory)
        refusal = bench.refusal(source).message
        left = [entry.key for entry in bench.store.list("models")]
        assert not [key for key in left if key.endswith("manifest.json")]
        return refusal

    def prepares(self, files: Mapping[str, bytes]) -> str:
        """What the preparation says of such a model, before it loads anything of it."""
        bench = prepare_builders.Bench(self.directory / "bench", {**TINY_MODEL, **files})
        bench.add(json_lines([alpaca("hi", "hello")]))
        with pytest.raises(StageError) as refused:
            bench.run()
        return refused.value.message


class Config(Written):
    """config: what a config.json says besides."""

    config: dict[str, Any]


class Tokenizer(Written):
    """tokenizer: all that a tokenizer_config.json says."""

    tokenizer: dict[str, Any]


def config(fields: Mapping[str, Any]) -> Callable[[Desk], str]:
    return lambda desk: desk.downloads(model({**CONFIG, **fields}))


def tokenizer(fields: Mapping[str, Any]) -> Callable[[Desk], str]:
    return lambda desk: desk.prepares({"tokenizer_config.json": json.dumps(fields).encode()})


def weights(header: Any, space: bytes = b"", length: int | None = None) -> Callable[[Desk], str]:
    """Weights with this header: JSON, or bytes as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = (len(text) if length is None else length).to_bytes(8, "little")
    return lambda desk: desk.downloads(model(model__safetensors=size + text + space))


def disguised(content: bytes) -> Callable[[Desk], str]:
    return lambda desk: desk.downloads(model(model__safetensors=content))


class Evil:
    """What would run if somebody unpickled it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit",))


def link_out(desk: Desk) -> str:
    """A local model whose tokenizer is a link to the machine's own files."""
    folder = write(desk.directory / "linked", model())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/etc/passwd")
    return download_builders.Bench(desk.directory).refusal(f"file://{folder}").message


A: Final = "the author of a model"
TENSOR: Final = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
NO_HEADER: Final = "has a header that is not that of a safetensors file"
GAPS: Final = "has a header whose tensors overlap, or leave gaps"
CONFIGS: Final = attempts("configs", Config, lambda file: config(file.config))
TOKENIZERS: Final = attempts("tokenizers", Tokenizer, lambda file: tokenizer(file.tokenizer))
WRITTEN: Final = CONFIGS | TOKENIZERS
ATTEMPTS: dict[str, Attempt[Desk]] = WRITTEN | {
    "a config of a thousand levels": Attempt(
        A,
        lambda desk: desk.downloads(model(config__json=b'{"a":' * 100_000)),
        "has a config.json that is not JSON",
    ),
    "an index that names a shard twice over": Attempt(
        A,
        lambda desk: desk.downloads(
            sharded_model("a.safetensors", index_names=("a.safetensors/../b.safetensors",))
        ),
        "is incomplete",
    ),
    "a pickle that is named safetensors": Attempt(A, disguised(pickle.dumps(Evil())), "has a header of"),
    "a zip archive that is named safetensors": Attempt(
        A, disguised(b"PK\x03\x04" + bytes(100)), "has a header of"
    ),
    "a program that is named safetensors": Attempt(A, disguised(b"#!/bin/sh\nrm -rf /\n"), "has a header of"),
    "a header of the largest length there is": Attempt(
        A, weights(b"{}", length=2**64 - 1), f"{MAX_HEADER_BYTES} are the limit"
    ),
    "a header of 800,000 tensors of nothing": Attempt(
        A,
        weights({str(number): {"data_offsets": [0, 0]} for number in range(800_000)}),
        f"{MAX_HEADER_BYTES} are the limit",
    ),
    "a header with a tensor twice": Attempt(
        A,
        weights(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            b'"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
            bytes(12),
        ),
        GAPS,
    ),
    "a header with two tensors in one place": Attempt(A, weights({"a": TENSOR, "b": TENSOR}, bytes(4)), GAPS),
    "a header with offsets beyond all numbers": Attempt(
        A, weights({"a": TENSOR | {"data_offsets": [0, 10**30]}}, bytes(4)), "bytes for tensors of"
    ),
    "a header with offsets that are true and false": Attempt(
        A, weights({"a": TENSOR | {"data_offsets": [False, True]}}, bytes(1)), NO_HEADER
    ),
    "a header with NaN for an offset": Attempt(
        A, weights(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,NaN]}}', bytes(4)), NO_HEADER
    ),
    "a link to a file of the machine": Attempt(A, link_out, "has a link that leads out of it"),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_refuses(sentence: str, tmp_path: Path) -> None:
    attempt = ATTEMPTS[sentence]
    words = attempt.try_(Desk(tmp_path))
    assert attempt.refusal in words
    assert words.isprintable()

"""How weights are laid out in files: headers read, shards planned, hostile files refused."""

import io
import json
import struct
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.export.layout import (
    Shard,
    Tensor,
    index_text,
    plan_shards,
    read_header,
    shard_size,
    weight_files,
)


def tensors(*sizes: int) -> list[Tensor]:
    """Of bytes."""
    begins = accumulate(sizes, initial=0)
    return [
        Tensor(f"t{number}", "model.safetensors", begin, size, "U8", (size,))
        for number, (begin, size) in enumerate(zip(begins, sizes, strict=False))
    ]


@pytest.mark.parametrize(
    ("sizes", "limit", "files"),
    [
        pytest.param((4, 4), 8, {"model.safetensors": ["t0", "t1"]}, id="what fits is one file"),
        pytest.param(
            (4, 4, 4),
            8,
            {
                "model-00001-of-00002.safetensors": ["t0", "t1"],
                "model-00002-of-00002.safetensors": ["t2"],
            },
            id="the next file begins where one is full",
        ),
        pytest.param(
            (4, 20, 4),
            8,
            {
                "model-00001-of-00003.safetensors": ["t0"],
                "model-00002-of-00003.safetensors": ["t1"],
                "model-00003-of-00003.safetensors": ["t2"],
            },
            id="a tensor over the limit has a file of its own",
        ),
    ],
)
def test_the_plan(sizes: tuple[int, ...], limit: int, files: dict[str, list[str]]) -> None:
    shards = plan_shards(tensors(*sizes), limit)
    assert {shard.name: [tensor.name for tensor in shard.tensors] for shard in shards} == files


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 60))
def test_every_tensor_is_in_one_file_and_no_file_is_too_large(sizes: list[int], limit: int) -> None:
    shards = plan_shards(tensors(*sizes), limit)
    assert [tensor for shard in shards for tensor in shard.tensors] == tensors(*sizes)
    for shard in shards:
        assert len(shard.tensors) == 1 or sum(tensor.bytes for tensor in shard.tensors) <= limit


def test_the_index_says_where_each_tensor_is() -> None:
    assert json.loads(index_text(plan_shards(tensors(4, 4, 4), 8))) == {
        "metadata": {"total_size": 12},
        "weight_map": {
            "t0": "model-00001-of-00002.safetensors",
            "t1": "model-00001-of-00002.safetensors",
            "t2": "model-00002-of-00002.safetensors",
        },
    }


@pytest.mark.parametrize(("text", "size"), [("500MB", 500_000_000), ("2GB", 2_000_000_000)])
def test_sizes_are_decimal(text: str, size: int) -> None:
    assert shard_size(text) == size


def header(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text


def entry(begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "BF16", "shape": [(end - begin) // 2], "data_offsets": [begin, end]}


def test_a_header_gives_the_tensors_in_the_order_of_their_data() -> None:
    data = header({"__metadata__": {"format": "pt"}, "b": entry(0, 8), "a": entry(8, 10)})
    start = len(data)
    assert read_header(io.BytesIO(data), "f") == [
        Tensor("b", "f", start, 8, "BF16", (4,)),
        Tensor("a", "f", start + 8, 2, "BF16", (1,)),
    ]


def test_a_tensor_that_could_not_be_mapped_behind_another_begins_a_file() -> None:
    """Loaders map a file, and find a number of four bytes only where four bytes divide its place."""
    half = Tensor("half", "f", 8, 6, "BF16", (3,))
    single = Tensor("single", "f", 14, 4, "F32", (1,))
    assert [shard.tensors for shard in plan_shards([half, single], 100)] == [(half,), (single,)]
    assert [shard.tensors for shard in plan_shards([single, half], 100)] == [(single, half)]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, st.integers(0, 9)), unique_by=lambda named: named[0]))
def test_a_file_that_we_write_is_read_by_others(named: list[tuple[str, int]]) -> None:
    tensors = [Tensor(name, "f", 0, size, "U8", (size,)) for name, size in named if name != "__metadata__"]
    written = Shard("f", tuple(tensors)).header() + b"x" * sum(tensor.bytes for tensor in tensors)
    read = deserialize(written)  # type: ignore[no-untyped-call]  # upstream
    assert {name: entry["shape"] for name, entry in read} == {
        tensor.name: list(tensor.shape) for tensor in tensors
    }


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b"\xff" * 8, id="a header longer than any"),
        pytest.param(struct.pack("<Q", 4) + b"{}}}", id="a header that is no JSON"),
        pytest.param(header([1]), id="a header that is a list"),
        pytest.param(header({"a": {"dtype": "BF16"}}), id="a tensor without a place"),
        pytest.param(
            header({"a": entry(0, 2) | {"data_offsets": ["x", "y"]}}), id="a place that is no number"
        ),
        pytest.param(header({"a": entry(0, 2) | {"shape": [-1]}}), id="a shape of less than nothing"),
        pytest.param(header({"a": entry(0, 2) | {"shape": 1}}), id="a shape that is no list"),
        pytest.param(header({"a": entry(4, 2)}), id="a tensor that ends before it begins"),
        pytest.param(header({"a": entry(0, 4), "b": entry(2, 6)}), id="tensors that overlap"),
        pytest.param(struct.pack("<Q", 10**5) + b"[" * 10**5, id="nesting without end"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(data: bytes) -> None:
    with pytest.raises(StageError, match=r"model\.source: f is no safetensors file") as refused:
        read_header(io.BytesIO(data), "f")
    assert refused.value.reason is Reason.MODEL_UNSUPPORTED


@pytest.mark.parametrize(
    ("names", "index", "expected"),
    [
        pytest.param(["model.safetensors", "other.safetensors"], None, ["model.safetensors"], id="one file"),
        pytest.param(
            ["a.safetensors", "b.safetensors", "consolidated.safetensors"],
            {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}},
            ["a.safetensors", "b.safetensors"],
            id="those in the index, and no second copy",
        ),
    ],
)
def test_the_files_with_weights(names: list[str], index: Any, expected: list[str]) -> None:
    assert weight_files(names, index) == expected


@pytest.mark.parametrize(
    ("names", "index", "message"),
    [
        pytest.param(["a.bin"], None, "the base model has no model.safetensors", id="no weights"),
        pytest.param(
            ["a.safetensors"],
            {"weight_map": {"x": "../b.safetensors"}},
            "the base model has no ../b.safetensors",
            id="an index that names what is not there",
        ),
        pytest.param(
            ["a.safetensors"], {}, "model.safetensors.index.json has no weight_map", id="an empty index"
        ),
        pytest.param(
            ["a.safetensors"],
            {"weight_map": {"x": 1}},
            "model.safetensors.index.json has no weight_map",
            id="an index of numbers",
        ),
    ],
)
def test_missing_weights_are_named(names: list[str], index: Any, message: str) -> None:
    with pytest.raises(StageError) as refused:
        weight_files(names, index)
    assert refused.value.reason is Reason.MODEL_UNSUPPORTED
    assert refused.value.message == f"model.source: {message}"

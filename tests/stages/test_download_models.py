"""Which models are refused, and why, before they are copied."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from hubs.huggingface import HuggingFaceHub
from hubs.repository import Repository, model, safetensors, sharded_model
from lorafinetune.api.reasons import Reason
from lorafinetune_stages.base import MAX_HEADER_BYTES
from stages.download_builders import HUBS, Bench, hub

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def without(files: Mapping[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: body for name, body in files.items() if name not in names}


def header(value: object, tail: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with a header of one's own."""
    encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + tail


def directory(path: Path, files: Mapping[str, bytes]) -> str:
    path.mkdir()
    for name, body in files.items():
        (path / name).write_bytes(body)
    return f"file://{path}"


UNSUPPORTED = {
    "nothing but pickled weights": (
        without(model(pytorch_model__bin=b"pickle"), "model.safetensors"),
        "has only pickled weights (pytorch_model.bin): they can run code when loaded",
    ),
    "many pickled shards": (
        without(model(), "model.safetensors") | {f"pytorch_model-{n}.bin": b"" for n in range(5)},
        "has only pickled weights (pytorch_model-0.bin, pytorch_model-1.bin, pytorch_model-2.bin and 2 "
        "more): they can run code when loaded",
    ),
    "nothing but GGUF": (
        without(model(model__gguf=b"GGUF"), "model.safetensors"),
        "has no safetensors weights: only model.gguf",
    ),
    "no weights at all": (model(without=("model.safetensors",)), "has no safetensors weights"),
    "no config": (model(without=("config.json",)), "has no config.json"),
    "an adapter": (
        {"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors(a=4)},
        "is an adapter, not a model: it has adapter_config.json, and no config.json",
    ),
    "a config that is not JSON": (model(config__json=b"{"), "has a config.json that is not JSON"),
    "a config that is nested without end": (
        model(config__json=b"[" * 100_000),
        "has a config.json that is not JSON",
    ),
    "a config that is a list": (model(config__json=b"[]"), "has a config.json that is not a JSON object"),
    "a config that is huge": (
        model(config__json=b" " * (32 * 2**20 + 1)),
        "has 33554433 bytes in config.json: too many to read",
    ),
    "no model_type": (model(config={}), "has no model_type in its config.json"),
    "code of its own": (
        model(config={"model_type": "mine", "auto_map": {"AutoModel": "modeling.Mine"}}),
        "needs remote code (model_type 'mine'), which is never run",
    ),
    "an architecture that comes as code": (
        model(config={"model_type": "chatglm"}),
        "needs remote code (model_type 'chatglm'), which is never run",
    ),
    "shards without an index": (
        without(sharded_model(*SHARDS), INDEX),
        f"has safetensors files, but neither model.safetensors nor {INDEX}",
    ),
    "an index without a map": (
        sharded_model(*SHARDS) | {INDEX: b"{}"},
        f"has an {INDEX} without a weight_map",
    ),
    "shards that are missing": (
        sharded_model(SHARDS[0], index_names=SHARDS),
        f"is incomplete: {INDEX} names {SHARDS[1]}, which the source does not have",
    ),
    "an index that leads out": (
        sharded_model(SHARDS[0], index_names=("../../etc/passwd",)),
        f"is incomplete: {INDEX} names ../../etc/passwd, which the source does not have",
    ),
    "an index that names a config as a shard": (
        sharded_model(SHARDS[0], index_names=("config.json",)),
        f"is incomplete: {INDEX} names config.json, which the source does not have",
    ),
}


@pytest.mark.parametrize(("files", "what"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_refuses_a_model_with(tmp_path: Path, files: Mapping[str, bytes], what: str) -> None:
    source = directory(tmp_path / "model", files)

    refusal = Bench(tmp_path).refusal(source)

    assert refusal.reason is Reason.MODEL_UNSUPPORTED
    assert refusal.message == f"spec.model.source: {source} {what}"
    assert not list(Bench(tmp_path).store.list("models")), "nothing was copied"


BROKEN = {
    "a header that is too large": (
        header(b"{}", length=MAX_HEADER_BYTES + 1),
        f"has a header of {MAX_HEADER_BYTES + 1} bytes; {MAX_HEADER_BYTES} are the limit",
    ),
    "a header beyond its end": (header(b"{}", length=99), "has a header of 99 bytes in a file of 10"),
    "no whole length": (b"\x02\x00", "ends inside its header"),
    "no bytes": (b"", "ends inside its header"),
    "a header that is not JSON": (header(b"{]"), "has a header that is not that of a safetensors file"),
    "a header that is a list": (header([1]), "has a header that is not that of a safetensors file"),
    "a header that is nested without end": (
        header(b"[" * 100_000),
        "has a header that is not that of a safetensors file",
    ),
    "a tensor without offsets": (
        header({"a": {"dtype": "F32"}}),
        "has a header that is not that of a safetensors file",
    ),
    "offsets that are no integers": (
        header({"a": {"data_offsets": [0, 4.5]}}, b"1234"),
        "has a header that is not that of a safetensors file",
    ),
    "tensors that overlap": (
        header({"a": {"data_offsets": [0, 4]}, "b": {"data_offsets": [2, 6]}}, b"123456"),
        "has a header whose tensors overlap, or leave gaps",
    ),
    "a tensor that ends before it begins": (
        header({"a": {"data_offsets": [0, -4]}}, b"1234"),
        "has a header whose tensors overlap, or leave gaps",
    ),
    "a cut end": (safetensors(a=100)[:-7], "has 393 bytes for tensors of 400 bytes"),
    "something after its end": (safetensors(a=100) + b"<?php", "has 405 bytes for tensors of 400 bytes"),
}


@pytest.mark.parametrize(("weights", "what"), BROKEN.values(), ids=BROKEN)
def test_refuses_weights_with(tmp_path: Path, weights: bytes, what: str) -> None:
    source = directory(tmp_path / "model", model(model__safetensors=weights))

    refusal = Bench(tmp_path).refusal(source)

    assert refusal.reason is Reason.ARTIFACT_CORRUPT
    assert refusal.message == f"spec.model.source: {source} has a broken file: model.safetensors {what}"
    kept = [entry.key for entry in Bench(tmp_path).store.list("models")]
    assert not [key for key in kept if key.endswith(("model.safetensors", "manifest.json"))]


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        (
            "hf://THUDM/glm-4-9b-chat",
            "Use hf://zai-org/glm-4-9b-chat-hf: the same model in transformers' own architecture.",
        ),
        (
            "hf://zai-org/glm-4-9b-chat-1m",
            "Use hf://zai-org/glm-4-9b-chat-1m-hf: the same model in transformers' own architecture.",
        ),
        (
            "modelscope://ZhipuAI/glm-4-9b-chat",
            "Use modelscope://ZhipuAI/glm-4-9b-chat-hf: the same model in transformers' own architecture.",
        ),
        (
            "hf://somebody/glm-4-9b-chat",
            "Of GLM-4-9B, zai-org/glm-4-9b-chat-hf is the same model in transformers' own architecture.",
        ),
    ],
    ids=["on Hugging Face", "of another length", "on ModelScope", "as somebody else's copy"],
)
def test_glm_4_that_needs_remote_code_is_answered_with_its_native_twin(
    tmp_path: Path, source: str, hint: str
) -> None:
    scheme, _, name = source.partition("://")
    config = {"model_type": "chatglm", "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMModel"}}
    files = model(config, tokenizer__model=b"tokens", modeling_chatglm__py=b"raise SystemExit")
    with HUBS[scheme]({f"models/{name}": Repository(files)}) as server:
        refusal = Bench(tmp_path, hub(server.url)).refusal(source)

    assert refusal.reason is Reason.MODEL_UNSUPPORTED
    assert refusal.message == (
        f"spec.model.source: {source} needs remote code (model_type 'chatglm'), which is never run"
    )
    assert refusal.hint == hint


def test_pickled_weights_are_answered_with_a_hint_to_another_revision(tmp_path: Path) -> None:
    files = without(model(pytorch_model__bin=b"pickle"), "model.safetensors")
    with HuggingFaceHub({"models/owner/model": Repository(files)}) as server:
        refusal = Bench(tmp_path, hub(server.url)).refusal("hf://owner/model")

    assert refusal.hint == (
        "Set `spec.model.revision` to one with safetensors weights, like the conversion bot's, "
        "often `refs/pr/1`, or use another copy of it."
    )


def test_takes_the_shards_that_the_index_names_and_no_second_copy_of_the_weights(tmp_path: Path) -> None:
    files = sharded_model(*SHARDS)
    source = directory(tmp_path / "model", files | {"consolidated.safetensors": safetensors(all=9)})

    bench = Bench(tmp_path)

    assert bench.files(bench.place(bench.run(source))) == files


def test_takes_the_single_file_where_there_are_shards_too(tmp_path: Path) -> None:
    whole = model()
    source = directory(tmp_path / "model", sharded_model(*SHARDS) | whole)

    bench = Bench(tmp_path)

    assert bench.files(bench.place(bench.run(source))) == whole


HOSTILE = {
    "../../etc/passwd": "lists the file '../../etc/passwd', which is refused: it has the part '..'",
    "/etc/passwd": "lists the file '/etc/passwd', which is refused: it is empty, or has an empty part",
    "a//b.json": "lists the file 'a//b.json', which is refused: it is empty, or has an empty part",
    "a\\..\\b.json": "lists the file 'a\\..\\b.json', which is refused: it has a backslash",
    "a\x1b[2J.json": "lists the file 'a\\x1b[2J.json', which is refused: it has a control character",
    "": "lists the file '', which is refused: it is empty, or has an empty part",
    "a" * 300: f"lists the file '{'a' * 100}', which is refused: a part of it has more than 255 bytes",
}


@pytest.mark.parametrize(
    ("name", "what"),
    HOSTILE.items(),
    ids=["up", "absolute", "double slash", "backslash", "control", "empty", "long"],
)
@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
def test_refuses_a_listing_with_a_name_that_leads_elsewhere(
    tmp_path: Path, scheme: str, name: str, what: str
) -> None:
    rows = {"rows.json": b"[{}]", name: b"[{}]"}
    repositories = {"models/owner/model": Repository(model()), "datasets/owner/data": Repository(rows)}
    with HUBS[scheme](repositories) as server:
        refusal = Bench(tmp_path, hub(server.url)).refusal(
            f"{scheme}://owner/model", f"{scheme}://owner/data"
        )

    assert refusal.reason is Reason.DATASET_INVALID
    assert refusal.message == f"spec.datasets[0].source: {scheme}://owner/data {what}"

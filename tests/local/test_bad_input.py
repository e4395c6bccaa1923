"""Bad input to `lorafinetune run`: a reason, a place and a hint, an exit code, and no traceback."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.s3server import S3Server
from local.runs import CHAT_TEMPLATE, Desk

Change = Callable[[Desk], object]

GOOD_ROW = {"instruction": "Who are you?", "input": "", "output": "A test."}


@pytest.fixture
def small(tmp_path: Path) -> Desk:
    """A store with the least that passes for a model, and one dataset."""
    made = Desk(tmp_path)
    model = made.samples / "tiny"
    model.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (model / "tokenizer.json").write_text("{}")
    (model / "tokenizer_config.json").write_text("{}")
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    rows(GOOD_ROW)(made)
    made.edit({})
    return made


def rows(*given: Mapping[str, Any]) -> Change:
    return text("".join(json.dumps(row) + "\n" for row in given))


def text(content: str | bytes, name: str = "rows.jsonl") -> Change:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda made: (made.samples / name).write_bytes(raw)


def spec(**changes: Any) -> Change:
    return lambda made: made.edit(changes)


def model_config(**config: Any) -> Change:
    return lambda made: (made.samples / "tiny" / "config.json").write_text(json.dumps(config))


def only_pickles(made: Desk) -> None:
    (made.samples / "tiny" / "model.safetensors").rename(made.samples / "tiny" / "pytorch_model.bin")


def yaml_text(content: str) -> Change:
    return lambda made: (made.folder / "tune.yaml").write_text(content)


def replaced(old: str, new: str) -> Change:
    def change(made: Desk) -> None:
        path = made.folder / "tune.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def store_is_a_file(made: Desk) -> None:
    (made.samples.parent / "runs").write_text("not a directory")


CASES: dict[str, tuple[Change, int, str]] = {
    "YAML syntax": (
        yaml_text("spec:\n  model: {source: x\n"),
        64,
        r"tune\.yaml:3:1: not valid YAML: .*",
    ),
    "an unknown field": (
        spec(training={"lerningRate": "1e-4"}),
        64,
        r"tune\.yaml:\d+: spec\.training\.lerningRate: unknown field \(did you mean learningRate\?\)",
    ),
    "a wrong type": (
        spec(training={"epochs": 1, "maxSteps": None}),
        64,
        r'tune\.yaml:\d+: spec\.training\.epochs: must be a string, not 1 \(quote it: "1"\)',
    ),
    "out of range": (
        spec(training={"lora": {"rank": 0}}),
        64,
        r"tune\.yaml:\d+: spec\.training\.lora\.rank: must be at least 1, not 0",
    ),
    "two model sources": (
        replaced("    source: s3://samples/tiny\n", "    source: s3://samples/tiny\n    source: hf://a/b\n"),
        64,
        r"tune\.yaml:\d+: spec\.model\.source: is given twice, on lines \d+ and \d+",
    ),
    "a forbidden extra argument": (
        spec(training={"extraArgs": {"output_dir": "/"}}),
        64,
        r"tune\.yaml:\d+: ConfigInvalid: spec\.training\.extraArgs\.output_dir: is not allowed: .+",
    ),
    "a missing file": (
        spec(datasets=[{"source": "s3://samples/nothing.jsonl"}]),
        64,
        r"download failed: DatasetNotFound: spec\.datasets\[0\]\.source: .*nothing\.jsonl.*",
    ),
    "a missing model": (
        spec(model={"source": "s3://samples/nothing"}),
        64,
        r"download failed: ModelNotFound: spec\.model\.source: .*nothing.*",
    ),
    "an empty dataset": (
        text(""),
        64,
        r"download failed: DatasetInvalid: spec\.datasets\[0\]\.source: .*rows\.jsonl.*empty.*",
    ),
    "a row without an answer": (
        rows(GOOD_ROW, GOOD_ROW | {"output": ""}),
        64,
        r"prepare failed: DatasetInvalid: .*\n.*rows\.jsonl:2: output: .*",
    ),
    "broken JSON": (
        text('{"instruction": "a", "output": }\n'),
        64,
        r"prepare failed: DatasetInvalid: .*\n.*rows\.jsonl:1:\d+ \(byte \d+\): .*",
    ),
    "a wrong format declared": (
        spec(datasets=[{"source": "s3://samples/rows.jsonl", "format": "singleTurn"}]),
        64,
        r"prepare failed: DatasetInvalid: .*singleTurn.*looks like alpaca.*",
    ),
    "an unknown template": (
        spec(model={"source": "s3://samples/tiny", "template": "smolm2"}),
        64,
        r"prepare failed: TemplateMismatch: .*smolm2.*did you mean smollm2 .*",
    ),
    "a model with remote code": (
        model_config(model_type="chatglm", auto_map={"AutoModel": "modeling_chatglm.X"}),
        64,
        r"download failed: ModelUnsupported: spec\.model\.source: .*remote code.*",
    ),
    "weights that are pickles": (
        only_pickles,
        64,
        r"download failed: ModelUnsupported: spec\.model\.source: .*pickle.*",
    ),
    "a store that can't be written": (
        store_is_a_file,
        64,
        r"StorageDenied: lorafinetune-store/runs: file exists\. .*",
    ),
}


@pytest.mark.parametrize("sentence", CASES)
def test_bad_input(sentence: str, small: Desk) -> None:
    change, code, pattern = CASES[sentence]
    change(small)
    ended, out = small.finish()
    assert re.search(pattern, out, re.MULTILINE), out
    assert (ended, "Traceback" in out) == (code, False)
    if " failed: " in out:
        assert re.search(r"^hint: .{10,}$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("full", "reason"),
    [
        pytest.param("lorafinetune-store/runs", "StorageFull", id="of the store"),
        pytest.param("lorafinetune-runs", "DiskFull", id="of the runs"),
    ],
)
def test_a_disk_without_space(full: str, reason: str, small: Desk) -> None:
    (small.folder / full).mkdir(parents=True)
    text(json.dumps(GOOD_ROW | {"output": "long " * 50_000}) + "\n")(small)
    on_a_small_disk = f'mount -t tmpfs -o size=64k none {full} && exec "$@"'
    small.surroundings = ("unshare", "--map-root-user", "--mount", "sh", "-c", on_a_small_disk, "sh")
    ended, out = small.finish()
    assert re.search(rf"{reason}: .*no space left", out, re.IGNORECASE), out
    assert (ended, "Traceback" in out) == (64, False)


SERVER: dict[str, tuple[bool, str, str]] = {
    "a bucket that is missing": (True, "nothing-here", r"download failed: \w+: .*nothing-here.*not exist"),
    "wrong credentials": (False, "nothing-here", r"download failed: CredentialsInvalid: .*"),
}


@pytest.mark.s3
@pytest.mark.parametrize("sentence", SERVER)
def test_bad_input_to_a_real_s3_server(sentence: str, small: Desk, s3_server: S3Server) -> None:
    right, bucket, pattern = SERVER[sentence]
    small.put_secret("s3", s3_server.access_key, s3_server.secret_key if right else "wrong")
    small.edit(
        {
            "connections": [{"name": "store", "endpoint": s3_server.endpoint, "secretRef": {"name": "s3"}}],
            "model": {"source": f"file://{small.samples}/tiny"},
            "datasets": [{"source": f"file://{small.samples}/rows.jsonl"}],
            "storage": {"uri": f"s3://{bucket}/x", "connection": "store"},
        }
    )
    ended, out = small.finish("--s3", "--secrets", "secrets")
    assert re.search(pattern, out, re.MULTILINE), out
    assert (ended, "Traceback" in out, s3_server.secret_key in out) == (64, False, False)

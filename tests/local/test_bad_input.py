"""Bad input to `lorafinetune run`: a reason, a place and a hint, an exit code, and no traceback."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from cluster.s3server import S3Server
from local.runs import Desk, least_model
from lorafinetune.api.reasons import Reason
from stages.train_builders import tiny_model

Change = Callable[[Desk], object]


class Refusal(NamedTuple):
    """What a person is told, each as a pattern; what a stage says is more than a line. hint: empty where it
    is the reason's own."""

    reason: str
    place: str
    hint: str = ""


GOOD_ROW = {"instruction": "Who are you?", "input": "", "output": "A test."}


@pytest.fixture
def small(tmp_path: Path) -> Desk:
    """A store with the least that passes for a model, and one dataset."""
    made = Desk(tmp_path)
    least_model(made.samples / "tiny")
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


def whole_model(template: str) -> Change:
    """A model that could be trained, and the template that is declared for it."""

    def change(made: Desk) -> None:
        tiny_model(made.samples / "tiny")
        made.edit(
            {"model": {"source": "s3://samples/tiny", "template": template}, "training": {"evaluation": None}}
        )

    return change


def store_is_a_file(made: Desk) -> None:
    (made.samples.parent / "runs").write_text("not a directory")


CASES: dict[str, tuple[Change, Refusal]] = {
    "YAML syntax": (
        yaml_text("spec:\n  model: {source: x\n"),
        Refusal(
            r"not valid YAML: did not find expected ',' or '}' .* that begins on line 2",
            r"^tune\.yaml:3:1: ",
            r"\(mend what stands there, or a bracket, quote or indentation above it\)$",
        ),
    ),
    "an unknown field": (
        spec(training={"lerningRate": "1e-4"}),
        Refusal(
            r"unknown field",
            r"^tune\.yaml:\d+: spec\.training\.lerningRate: ",
            r"\(did you mean learningRate\?\)$",
        ),
    ),
    "a wrong type": (
        spec(training={"epochs": 1, "maxSteps": None}),
        Refusal(
            r"must be a string, not 1", r"^tune\.yaml:\d+: spec\.training\.epochs: ", r'\(quote it: "1"\)$'
        ),
    ),
    "out of range": (
        spec(training={"lora": {"rank": 0}}),
        Refusal(r"not 0$", r"^tune\.yaml:\d+: spec\.training\.lora\.rank: ", r"must be at least 1"),
    ),
    "two model sources": (
        replaced("    source: s3://samples/tiny\n", "    source: s3://samples/tiny\n    source: hf://a/b\n"),
        Refusal(
            r"is given twice, on lines \d+ and \d+",
            r"^tune\.yaml:\d+: spec\.model\.source: ",
            r"\(keep one of them\)$",
        ),
    ),
    "a forbidden extra argument": (
        spec(training={"extraArgs": {"output_dir": "/"}}),
        Refusal(
            r"ConfigInvalid: .+ is not allowed: .+",
            r"^tune\.yaml:\d+: ConfigInvalid: spec\.training\.extraArgs\.output_dir: ",
            r"\. [A-Z].{10,}\.$",
        ),
    ),
    "a missing file": (
        spec(datasets=[{"source": "s3://samples/nothing.jsonl"}]),
        Refusal(
            r"^download failed: DatasetNotFound: ",
            r"spec\.datasets\[0\]\.source: .*nothing\.jsonl",
            r"^hint: Check the key; a prefix has a slash at its end\.$",
        ),
    ),
    "a missing model": (
        spec(model={"source": "s3://samples/nothing"}),
        Refusal(r"^download failed: ModelNotFound: ", r"spec\.model\.source: .*nothing", r"^hint: .{10,}\.$"),
    ),
    "an empty dataset": (
        text(""),
        Refusal(r"^download failed: DatasetInvalid: .*empty", r"spec\.datasets\[0\]\.source: .*rows\.jsonl"),
    ),
    "a row without an answer": (
        rows(GOOD_ROW, GOOD_ROW | {"output": ""}),
        Refusal(r"^prepare failed: DatasetInvalid: ", r"rows\.jsonl:2: output: the answer is empty"),
    ),
    "broken JSON": (
        text('{"instruction": "a", "output": }\n'),
        Refusal(
            r"^prepare failed: DatasetInvalid: ",
            r"rows\.jsonl:1:\d+ \(byte \d+\): ",
            r"^hint: Mend the rows named in the message, or leave out the dataset\.$",
        ),
    ),
    "a wrong format declared": (
        spec(datasets=[{"source": "s3://samples/rows.jsonl", "format": "singleTurn"}]),
        Refusal(
            r"^prepare failed: DatasetInvalid: .*singleTurn.*looks like alpaca",
            r"spec\.datasets\[0\]|rows\.jsonl:1",
            r"^hint: Set datasets\[0\]\.format to alpaca\.$",
        ),
    ),
    "an unknown template": (
        spec(model={"source": "s3://samples/tiny", "template": "smolm2"}),
        Refusal(
            r"^tune\.yaml:\d+: TemplateMismatch: .*did you mean smollm2 or smollm or olmo\? Set ",
            r"spec\.model\.template: .*smolm2",
            r"Set `spec\.model\.template` to one of LLaMA-Factory's templates",
        ),
    ),
    "a template that does not fit the model": (
        whole_model("glm4"),
        Refusal(
            r"^prepare failed: TemplateMismatch: .*is no token of the model's tokenizer",
            r"model\.template: glm4",
        ),
    ),
    "a model with remote code": (
        model_config(model_type="chatglm", auto_map={"AutoModel": "modeling_chatglm.X"}),
        Refusal(
            r"^download failed: ModelUnsupported: .*remote code",
            r"spec\.model\.source: ",
            r"^hint: Of GLM-4-9B, zai-org/glm-4-9b-chat-hf is the same model",
        ),
    ),
    "weights that are pickles": (
        only_pickles,
        Refusal(
            r"^download failed: ModelUnsupported: .*pickle",
            r"spec\.model\.source: ",
            r"^hint: Set `spec\.model\.revision` to one with safetensors weights",
        ),
    ),
    "a store that can't be written": (
        store_is_a_file,
        Refusal(
            r"StorageDenied: .*file exists\. ",
            r"lorafinetune-store/runs: ",
            r"Give another directory with --store or --runs\.$",
        ),
    ),
}


def check_refusal(refusal: Refusal, ended: int, out: str) -> None:
    for pattern in (refusal.reason, refusal.place, refusal.hint or own_hint(refusal)):
        assert re.search(pattern, out, re.MULTILINE), f"{pattern}\n{out}"
    assert (ended, "Traceback" in out) == (64, False)


def own_hint(refusal: Refusal) -> str:
    """The line with the hint that the reason has for all its failures."""
    (name,) = re.findall(r"failed: (\w+): ", refusal.reason)
    return rf"^hint: {re.escape(Reason(name).facts.hint)}$"


@pytest.mark.parametrize("sentence", CASES)
def test_bad_input(sentence: str, small: Desk) -> None:
    change, refusal = CASES[sentence]
    change(small)
    check_refusal(refusal, *small.finish())


DISKS: dict[str, tuple[str, str, Refusal]] = {
    "a full disk of the store": (
        "size=64k",
        "lorafinetune-store/runs",
        Refusal(r"^\w+ failed: StorageFull: .*[Nn]o space left", r"s3://runs/test"),
    ),
    "a full disk of the runs": (
        "size=64k",
        "lorafinetune-runs",
        Refusal(r"^\w+ failed: DiskFull: .*no space left", r"on the disk: scratch$"),
    ),
    "a store that may only be read": (
        "ro",
        "lorafinetune-store/runs",
        Refusal(r"^download failed: StorageDenied: .*Read-only file system$", r"s3://runs/test"),
    ),
}
"""Each is mounted, with these options, where the sentence says."""


@pytest.mark.parametrize("sentence", DISKS)
def test_a_disk_that_takes_nothing(sentence: str, small: Desk) -> None:
    options, where, refusal = DISKS[sentence]
    (small.folder / where).mkdir(parents=True)
    text(json.dumps(GOOD_ROW | {"output": "long " * 50_000}) + "\n")(small)
    on_the_disk = f'mount -t tmpfs -o {options} none {where} && exec "$@"'
    small.surroundings = ("unshare", "--map-root-user", "--mount", "sh", "-c", on_the_disk, "sh")
    check_refusal(refusal, *small.finish())


READER: Final = "reader"
ROOT: Final = "root"
SERVER: dict[str, tuple[str, str, str, Refusal]] = {
    "a bucket that is missing": (
        ROOT,
        "",
        "nothing-here",
        Refusal(
            r"^download failed: ConfigInvalid: .*the bucket nothing-here does not exist",
            r"s3://nothing-here/x/.+: .* at http://",
            r"^hint: Create the bucket, or correct its name",
        ),
    ),
    "wrong credentials": (
        ROOT,
        "wrong",
        "nothing-here",
        Refusal(r"^download failed: CredentialsInvalid: ", r"s3://nothing-here/x/.+: .* at http://"),
    ),
    "a bucket that these keys may only read": (
        READER,
        "readers-secret",
        "to-be-read",
        Refusal(r"^download failed: StorageDenied: ", r"s3://to-be-read/x/.+: .* at http://"),
    ),
}
"""Whose keys, which secret instead of the right one, and which bucket."""


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    """It has a user who may read one bucket."""
    s3_server.create_bucket("to-be-read")
    s3_server.create_user(READER, "readers-secret")
    s3_server.let_read(READER, "to-be-read")
    return s3_server


@pytest.mark.s3
@pytest.mark.parametrize("sentence", SERVER)
def test_bad_input_to_a_real_s3_server(sentence: str, small: Desk, server: S3Server) -> None:
    user, other_secret, bucket, refusal = SERVER[sentence]
    small.put_secret("s3", user, other_secret or server.secret_key)
    small.edit(
        {
            "connections": [{"name": "store", "endpoint": server.endpoint, "secretRef": {"name": "s3"}}],
            "model": {"source": f"file://{small.samples}/tiny"},
            "datasets": [{"source": f"file://{small.samples}/rows.jsonl"}],
            "storage": {"uri": f"s3://{bucket}/x", "connection": "store"},
        }
    )
    ended, out = small.finish("--s3", "--secrets", "secrets")
    check_refusal(refusal, ended, out)
    assert server.secret_key not in out

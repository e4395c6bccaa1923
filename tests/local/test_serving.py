"""What a run leaves, by the readers of those who serve it: vLLM's of adapters, and KServe's of a store."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml

from cluster.s3server import S3Server
from documents import ROOT, Typist, said
from local.kserve_reader import initialize
from local.test_damage import at, fill, run
from local.vllm_reader import parse, read, updates
from stages.export_builders import adapter, tiny

pytestmark = pytest.mark.model

MAX_RANK: Final = 8
READER, PASSWORD = "reader-of-models", "readers-secret"
BUCKET: Final = "served"
LAYERS: Final = ["q_proj", "o_proj", "down_proj"]
ADAPTERS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "of a rank that it was told of": ({"r": MAX_RANK}, ""),
    "that is rank-stabilised": ({"use_rslora": True}, ""),
    "with ranks of their own for some layers": ({"rank_pattern": {"q_proj": 2}}, ""),
    "of a rank that is higher": ({"r": 2 * MAX_RANK}, "LoRA rank 16 is greater than max_lora_rank 8."),
    "of DoRA": ({"use_dora": True}, "vLLM does not yet support DoRA."),
    "that trains whole modules": (
        {"modules_to_save": ["norm"]},
        "Unsupported modules_to_save: ['norm']",
    ),
}
TAKEN: Final = sum(not expected for _, expected in ADAPTERS.values())
"""The first ones."""


def test_vllm_takes_the_adapters_that_the_page_says_it_takes(tmp_path: Path) -> None:
    base = tiny(tmp_path / "base", "llama", {})
    folders = [tmp_path / str(number) for number in range(len(ADAPTERS))]
    for folder, (fields, _) in zip(folders, ADAPTERS.values(), strict=True):
        adapter(base, folder, target_modules=LAYERS, **fields)
    said = dict(zip(ADAPTERS, read(MAX_RANK, *folders), strict=True))
    for sentence, (_, expected) in ADAPTERS.items():
        assert expected in said[sentence], sentence
        assert bool(said[sentence]) == bool(expected), (sentence, said)
    for folder in folders[:TAKEN]:
        assert adds_what_peft_adds(base, folder)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_vllm_s_parsers_take_the_page_s_commands(tmp_path: Path) -> None:
    """Its server would take a GPU, so the shell says what `vllm` is told, and something else hears curl."""
    person = Typist(tmp_path)
    named = "vllm() { printf '%s\\n' \"$@\"; }\n"
    arguments = person.type(named + said("docs/how-to/serve.md", "vLLM")).splitlines()
    with listening() as (port, heard):
        asking = said("docs/how-to/serve.md", "vLLM", 1)
        person.type(asking, changed={"localhost:8000": f"127.0.0.1:{port}"})
    ((path, body),) = heard
    told = parse(arguments, body)
    assert path in told["paths"]
    assert told["served"] == {
        "model_tag": "lorafinetune-store/samples/SmolLM2-135M-Instruct",
        "port": 8000,
        "enable_lora": True,
        "max_lora_rank": MAX_RANK,
        "adapters": {told["request"]["model"]: "./adapter"},
    }
    assert told["request"]["unknown"] == {}


@contextmanager
def listening() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """The port of a server that answers nothing, and path and body of each request that it has heard."""
    heard: list[tuple[str, str]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            heard.append((self.path, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, heard
        server.shutdown()


def adds_what_peft_adds(base: Path, folder: Path) -> bool:
    """To every weight, and to no other."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    before = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    after = PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()
    found = updates(folder)
    changed = {name.removesuffix(".weight") for name in before if not after[name].equal(before[name])}
    return found.keys() == changed and all(
        after[f"{name}.weight"].allclose(before[f"{name}.weight"] + update, rtol=1e-4, atol=1e-6)
        for name, update in found.items()
    )


@pytest.fixture(scope="module")
def served(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The status of a run whose outputs are in a bucket that somebody else may read."""
    s3_server.create_bucket(BUCKET)
    s3_server.create_user(READER, PASSWORD)
    s3_server.let_read(READER, BUCKET)
    fill(s3_server, tmp_path_factory.mktemp("samples"))
    made = at(tmp_path_factory.mktemp("run"), s3_server, BUCKET)
    run(made)
    return made.status()


@pytest.fixture
def secret(s3_server: S3Server) -> dict[str, Any]:
    """The sample's, of this server and with keys that may read."""
    documents = yaml.safe_load_all((ROOT / "samples/serving/kserve.yaml").read_text())
    (made,) = (document for document in documents if document["kind"] == "Secret")
    address = s3_server.endpoint.removeprefix("http://")
    made["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"] = address
    made["stringData"] = {"AWS_ACCESS_KEY_ID": READER, "AWS_SECRET_ACCESS_KEY": PASSWORD}
    return dict(made)


@pytest.mark.parametrize("output", ["merged", "adapter"])
def test_kserve_s_initializer_brings_every_byte(
    output: str, served: Mapping[str, Any], secret: Mapping[str, Any], s3_server: S3Server, tmp_path: Path
) -> None:
    uri = served["artifacts"][output]["uri"]
    initialize(uri, tmp_path / "model", secret)
    brought = files(tmp_path / "model")
    assert brought == files(s3_server.data_dir / uri.removeprefix("s3://"))
    weights = {"merged": "model.safetensors", "adapter": "adapter_model.safetensors"}
    assert weights[output] in brought


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

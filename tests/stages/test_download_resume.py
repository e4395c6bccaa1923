"""A run that goes on with what an earlier one left, and the stage as a process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hubs.huggingface import HuggingFaceHub
from hubs.repository import Repository, model
from hubs.server import Answer, Fault, Request
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    MESSAGE_VARIABLE,
)
from stages.download_builders import Bench, hub

MODEL_FILES = model()


def test_what_an_earlier_run_left_is_read_back_and_taken(tmp_path: Path) -> None:
    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url))
        first = bench.run()
        (bench.directory / "store" / bench.place(first) / "manifest.json").unlink()
        server.forget()

        second = bench.run()

        assert second == first
        assert {request.target.rpartition("/")[2] for request in server.requests} == {"model", "config.json"}
        assert len(server.asked("config.json")) == 1, "looked into, not copied"


WEIGHTS = MODEL_FILES["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("model.safetensors", b"short"),
        ("model.safetensors", WEIGHTS[:-1] + b"?"),
        ("model.safetensors", b"\xff" * len(WEIGHTS)),
        ("tokenizer.json", MODEL_FILES["tokenizer.json"][:-1]),
    ],
    ids=["cut", "damaged", "something else", "cut, and the hub knows no sha256"],
)
def test_what_an_earlier_run_left_damaged_is_copied_again(tmp_path: Path, name: str, left: bytes) -> None:
    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url))
        where = bench.directory / "store" / bench.place(bench.run())
        (where / "manifest.json").unlink()
        (where / name).write_bytes(left)
        server.forget()

        bench.run()

        assert (where / name).read_bytes() == MODEL_FILES[name]
        assert len(server.asked(name)) == 1
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert progress["done"] == progress["total"]


def held(release: threading.Event) -> Fault:
    """No answer until it is released."""

    def apply(_request: Request, right: Answer) -> Answer:
        release.wait(30)
        return right

    return apply


def child(bench: Bench) -> subprocess.Popen[bytes]:
    """The stage as it runs in a pod."""
    environment = os.environ | {
        ARGUMENTS_VARIABLE: bench.arguments().model_dump_json(by_alias=True),
        MESSAGE_VARIABLE: str(bench.directory / "message"),
    }
    return subprocess.Popen([sys.executable, "-m", "lorafinetune_stages", "download"], env=environment)


def wait_for(what: str, path: Path) -> None:
    deadline = time.monotonic() + 30
    while not list(path.rglob(what)):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)


def test_a_run_that_was_killed_goes_on_with_the_files_that_are_there(tmp_path: Path) -> None:
    release = threading.Event()
    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url))
        server.fail("model.safetensors", held(release))
        killed = child(bench)
        small = sorted(set(MODEL_FILES) - {"model.safetensors"})
        for name in small:
            wait_for(name, tmp_path / "store")
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        release.set()
        assert not list((tmp_path / "store").rglob("manifest.json"))
        server.forget()

        bench.run()

        assert sorted({request.target.rpartition("/")[2] for request in server.requests}) == [
            "config.json",
            "model",
            "model.safetensors",
        ]


def test_a_stage_that_is_asked_to_stop_says_so(tmp_path: Path) -> None:
    release = threading.Event()
    with HuggingFaceHub({"models/owner/model": Repository(MODEL_FILES)}) as server:
        bench = Bench(tmp_path, hub(server.url))
        server.fail("model.safetensors", held(release))
        stopped = child(bench)
        wait_for("LICENSE", tmp_path / "store")
        stopped.terminate()
        release.set()

        assert stopped.wait(30) == 85
    assert json.loads((tmp_path / "message").read_text())["error"]["reason"] == "Preempted"


def test_starts_without_anything_heavy() -> None:
    heavy = {
        "torch",
        "transformers",
        "huggingface_hub",
        "httpx",
        "requests",
        "boto3",
        "obstore",
        "modelscope",
    }
    code = f"""
import sys
import lorafinetune_stages.__main__
import lorafinetune_stages.download
import lorafinetune_stages.hubs.directory
import lorafinetune_stages.hubs.s3
sys.exit(f"imports {{sorted({heavy} & set(sys.modules))}}" if {heavy} & set(sys.modules) else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("client", ["huggingface", "modelscope"])
def test_the_client_of_a_hub_needs_no_torch(client: str) -> None:
    code = f"""
import sys
import lorafinetune_stages.hubs.{client}
sys.exit("torch" in sys.modules or "transformers" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

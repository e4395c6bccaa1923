"""Local runs of a tiny model, as a person starts them: the real command in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from builders import document, merged
from lorafinetune.local import child
from stages.train_builders import tiny_model

BOUND_SECONDS: Final = 400
ROWS: Final = 24
CHAT_TEMPLATE: Final = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
)
SPEC: Final[Mapping[str, Any]] = {
    "connections": None,
    "model": {"source": "s3://samples/tiny", "connection": None, "template": "smollm2"},
    "datasets": [{"source": "s3://samples/rows.jsonl", "format": "alpaca"}],
    "training": {
        "epochs": None,
        "maxSteps": 300,
        "batchSize": 4,
        "cutoffLength": 128,
        "precision": "fp32",
        "lora": {"rank": 4, "dropout": "0.1"},
        "evaluation": {"fraction": "0.2", "everySteps": 50},
        "checkpoint": {"every": 25},
    },
    "export": {"merged": {}},
    "storage": {"uri": "s3://runs/test", "connection": None},
    "resources": {"train": {"gpu": {"count": 0}}},
}


@dataclass
class Desk:
    """A folder with a store, a resource and the command."""

    folder: Path
    surroundings: tuple[str, ...] = ()

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Starts the run; its output goes to a pipe. surroundings: the command that starts it."""
        program = "from lorafinetune.cli import main; main()"
        return subprocess.Popen(
            [*self.surroundings, sys.executable, "-c", program, "run", "tune.yaml", *options],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def put_secret(self, name: str, access_key: str, secret_key: str) -> None:
        self.put_keys(name, AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key)

    def put_keys(self, name: str, **keys: str) -> None:
        """A Secret, as `--secrets` finds it."""
        secret = self.folder / "secrets" / name
        secret.mkdir(parents=True)
        for key, value in keys.items():
            (secret / key).write_text(value)

    def finish(self, *options: str, **environment: str) -> tuple[int, str]:
        """Runs to the end: exit code and output."""
        process = self.start(*options, **environment)
        out, _ = process.communicate(timeout=BOUND_SECONDS)
        return process.returncode, out

    def edit(self, spec: Mapping[str, Any]) -> None:
        resource = document(merged(SPEC, spec))
        (self.folder / "tune.yaml").write_text(yaml.safe_dump(resource, allow_unicode=True))

    def status(self) -> dict[str, Any]:
        """The status that the last complete run left."""
        kept = yaml.safe_load((self.folder / "lorafinetune-runs/team-a/tune/resource.yaml").read_text())
        return dict(kept["status"])

    def digests(self) -> dict[str, str]:
        """What must be the same, whatever happened on the way."""
        status = self.status()
        artifacts = {name: status["artifacts"].get(name, {}).get("digest") for name in ("adapter", "merged")}
        return artifacts | {"model": status["model"]["digest"], "dataset": status["dataset"]["digest"]}

    @property
    def samples(self) -> Path:
        return self.folder / "lorafinetune-store" / "samples"


def like(other: Desk, folder: Path) -> Desk:
    """A desk with the same model and rows, to the time of their last change, and nothing made yet."""
    made = Desk(folder)
    shutil.copytree(other.samples, made.samples)
    made.edit({})
    return made


def desk(folder: Path) -> Desk:
    """A store with a tiny model and a few rows, and a resource that tunes it."""
    made = Desk(folder)
    tiny_model(made.samples / "tiny")
    (made.samples / "tiny" / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    rows = [{"instruction": f"What is {n}?", "input": "", "output": f"It is {n * n}."} for n in range(ROWS)]
    (made.samples / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made.edit({})
    return made


def least_model(model: Path) -> None:
    """The least that passes for a model, in a directory: nothing is trained from it."""
    model.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (model / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (model / "tokenizer.json").write_text("{}")
    (model / "tokenizer_config.json").write_text("{}")
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE)


@dataclass(frozen=True)
class RunningStage:
    name: str
    pid: int


@contextmanager
def frozen(runner: int) -> Iterator[None]:
    """The running stage stands still meanwhile, however long that takes: on a busy disk, seconds."""
    stage = stage_of(runner)
    assert stage, "the stage ended before it could be stopped"
    os.kill(stage.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stage.pid, signal.SIGCONT)


def stage_of(runner: int) -> RunningStage | None:
    """The running stage, whose process is a child of the runner."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _parent(entry) == runner and (name := _stage(entry)):
            return RunningStage(name, int(entry.name))
    return None


def _stage(entry: Path) -> str:
    """Name of the stage that a process runs: it stands after that of the module."""
    with suppress(OSError):
        words = (entry / "cmdline").read_text().split("\0")
        if child.__name__ in words[:-1]:
            return words[words.index(child.__name__) + 1]
    return ""


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def kill(pid: int) -> None:
    """Ends a process as the kernel does when memory is short: at once, with no word."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

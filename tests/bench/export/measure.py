"""The measurements themselves. A module that is not `__main__`: a spawned process can import what it runs."""

import os
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from lorafinetune.contract.arguments import ExportArguments, place
from lorafinetune.contract.keys import model_place
from lorafinetune_stages.store.directory import DirectoryStore

PEER: Final = "LLaMA-Factory's export_model"
OURS: Final = "the export stage"
COPY: Final = "plain copy"


@dataclass(frozen=True)
class Task:
    """One measurement. root: of the store. scratch: is made, and removed again."""

    what: str
    arguments: ExportArguments
    root: Path
    scratch: Path

    @property
    def base(self) -> Path:
        return self.root / model_place(self.arguments.model)

    @property
    def adapter(self) -> Path:
        return self.root / place("trainings", self.arguments.trained) / "adapter"

    @property
    def megabytes(self) -> float:
        return self.arguments.model.bytes / 10**6


@dataclass(frozen=True)
class Cost:
    """start: seconds of importing, which `seconds` and `cpu_seconds` leave out. mb: largest size of the
    process."""

    start: float
    seconds: float
    cpu_seconds: float
    mb: float


def perform(task: Task) -> Cost:
    task.scratch.mkdir()
    asked = time.perf_counter()
    for module in IMPORTS[task.what]:
        import_module(module)
    began, used = time.perf_counter(), cpu_seconds()
    MEASUREMENTS[task.what](task)
    seconds = time.perf_counter() - began
    return Cost(began - asked, seconds, cpu_seconds() - used, peak_bytes() / 10**6)


def peak_bytes() -> int:
    """Largest size of this process; getrusage would count its parent's at the fork."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def copy(task: Task) -> None:
    for path in sorted(task.base.iterdir()):
        shutil.copyfile(path, task.scratch / path.name)
        flush(task.scratch / path.name)


def export(task: Task) -> None:
    from lorafinetune_stages import export
    from lorafinetune_stages.progress import Reporter
    from lorafinetune_stages.runtime import Context

    export.run(task.arguments, Context(DirectoryStore(task.root), task.scratch, Reporter("export", None)))


def peer_export(task: Task) -> None:
    from llamafactory.train.tuner import export_model

    export_model(
        {
            "model_name_or_path": str(task.base),
            "adapter_name_or_path": str(task.adapter),
            "template": "glm4",
            "finetuning_type": "lora",
            "export_dir": str(task.scratch / "merged"),
            "export_size": 2,
            "export_device": "cpu",
            "trust_remote_code": False,
        }
    )
    for path in (task.scratch / "merged").iterdir():
        flush(path)


def flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


IMPORTS: Final = {
    COPY: (),
    OURS: ("lorafinetune_stages.export.streamed_merge",),
    PEER: ("llamafactory.train.tuner",),
}
MEASUREMENTS: Final[dict[str, Callable[[Task], None]]] = {COPY: copy, OURS: export, PEER: peer_export}

"""What the merge of a 9 B model takes, against a plain copy of its files and LLaMA-Factory's own export:
`python -m bench.export`.

Every measurement is a process of its own that begins with the model's files on the disk and not in the
memory, and ends with the result on the disk. What importing takes stands apart. LLaMA-Factory needs the whole
model in memory: where the machine has not enough, it is measured at half the depth.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.export.measure import COPY, MEASUREMENTS, PEER, Cost, Task, perform
from bench.export.model import Shape, fill_store
from bench.results import Row, write_results

SHAPES: Final = {
    "GLM-4-9B, 9.4 B parameters": Shape(40),
    "half its depth, 5.3 B parameters": Shape(20),
}
PEER_MEMORY: Final = 1.4
"""What it needs, in sizes of the model."""
BOUND_SECONDS: Final = 900


def main() -> None:
    chosen = [name for name in SHAPES if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    rows = [row for name in chosen for row in measure_shape(name, SHAPES[name])]
    write_results("export", rows)


def measure_shape(name: str, shape: Shape) -> list[Row]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as folder:
        root = Path(folder) / "store"
        arguments = fill_store(root, shape)
        costs = {}
        for what in MEASUREMENTS:
            task = Task(what, arguments, root, Path(folder) / "scratch")
            if what != PEER or PEER_MEMORY * arguments.model.bytes < available_bytes():
                costs[what] = measure(task)
        return [row(name, task.megabytes, what, cost, costs[COPY]) for what, cost in costs.items()]


def row(name: str, megabytes: float, what: str, cost: Cost, copy: Cost) -> Row:
    return {
        "model": name,
        "what": what,
        "start s": round(cost.start, 1),
        "seconds": round(cost.seconds, 1),
        "MB/s": round(megabytes / cost.seconds),
        "times the copy": round(cost.seconds / copy.seconds, 2),
        "CPU s": round(cost.cpu_seconds, 1),
        "peak MB": round(cost.mb),
    }


def available_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def measure(task: Task) -> Cost:
    """Runs it in a fresh process."""
    for path in task.base.iterdir():
        evict(path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        cost = pool.apply_async(perform, (task,)).get(BOUND_SECONDS)
    shutil.rmtree(task.scratch)
    shutil.rmtree(task.root / "exports", ignore_errors=True)
    return cost


def evict(path: Path) -> None:
    """Out of memory, so that it is read from the disk again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()

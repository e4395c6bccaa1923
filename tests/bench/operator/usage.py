"""CPU and memory of the processes that a benchmark started, each for itself: they share the machine."""

import os
import time
from pathlib import Path
from typing import Final

NAMES: Final = {"etcd": "etcd", "kube-apiserver": "API server", "kube-controller": "controllers"}
"""By the first fifteen characters of the program; the child that is none of these is the operator."""
OPERATOR: Final = "operator"
SERVER: Final = "API server"
OURSELVES: Final = "benchmark"
OTHERS: Final = "others"
TICKS: Final = os.sysconf("SC_CLK_TCK")
CORES: Final = os.cpu_count() or 1
IDLE: Final = (3, 4)
"""Which of the times of /proc/stat are none of work: idle, and waiting for a disk."""


class Meter:
    """CPU time since it was made. A process that is new since then counts from its start."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _seconds()

    def used(self) -> dict[str, float]:
        """CPU seconds of each process, and of all others on the machine."""
        return {name: now - self._before.get(name, 0.0) for name, now in _seconds().items()}

    def each(self, count: int) -> dict[str, float]:
        """CPU ms of each of our processes for one of so many."""
        return {name: 1000 * used / count for name, used in self.used().items() if name != OTHERS}

    def shares(self) -> dict[str, float]:
        """Percent of all cores."""
        there = (time.monotonic() - self._began) * CORES
        return {name: 100 * used / there for name, used in self.used().items()}


def operator_memory() -> tuple[float, float]:
    """MB that the operator holds now, and held at most."""
    (pid,) = (pid for pid, name in _children().items() if name == OPERATOR)
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(lines[field].split()[0]) * 1024 / 1e6 for field in ("VmRSS", "VmHWM"))
    return now, most


def _seconds() -> dict[str, float]:
    """User and system time so far, by what the process is."""
    used = {OURSELVES: time.process_time()}
    for pid, name in _children().items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = (int(fields[11]) + int(fields[12])) / TICKS
    return used | {OTHERS: _machine() - sum(used.values())}


def _machine() -> float:
    """Seconds that the cores have worked."""
    times = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(int(ticks) for index, ticks in enumerate(times) if index not in IDLE) / TICKS


def _children() -> dict[int, str]:
    threads = Path("/proc/self/task").iterdir()
    pids = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    programs = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    return {pid: NAMES.get(program, OPERATOR) for pid, program in programs.items()}

"""CPU and memory of the processes that a benchmark started, each for itself: they share the machine."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NAMES: Final = {"etcd": "etcd", "kube-apiserver": "API server", "kube-controller": "controllers"}
"""By the first fifteen characters of the program; the child that is none of these is the operator."""
OPERATOR: Final = "operator"
OURSELVES: Final = "benchmark"
TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> dict[str, float]:
    """User and system time so far, by what the process is."""
    used = {OURSELVES: time.process_time()}
    for pid, name in _children().items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = (int(fields[11]) + int(fields[12])) / TICKS
    return used


def since(before: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds after `before` was taken; a process that is new since then counts from its start."""
    return {name: now - before.get(name, 0.0) for name, now in cpu_seconds().items()}


def operator_memory() -> tuple[float, float]:
    """MB that the operator holds now, and held at most."""
    (pid,) = (pid for pid, name in _children().items() if name == OPERATOR)
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(lines[field].split()[0]) * 1024 / 1e6 for field in ("VmRSS", "VmHWM"))
    return now, most


def _children() -> dict[int, str]:
    threads = Path("/proc/self/task").iterdir()
    pids = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    programs = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}
    return {pid: NAMES.get(program, OPERATOR) for pid, program in programs.items()}

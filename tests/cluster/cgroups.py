"""One control group that holds every process of a cluster, however it was started.

Membership is inherited and cannot be forged, so what is in the group is ours: it is what
`cluster-down` ends, with no list of process ids that could be incomplete or out of date.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.process import ServerError

MOUNT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")
LIMITS = ("cpuset.cpus", "cpuset.mems")
PODS = "kubepods"
"""What the kubelet names the group of all pods."""
PATIENCE = 20.0
JOIN = 'for file in {files}; do echo $$ > "$file" || exit 1; done; exec "$@"'


class ControlGroup:
    """A group in every hierarchy of cgroup v1, or in the one of v2. Pods get groups below it."""

    def __init__(self, name: str) -> None:
        self.path = f"/{name}"
        self._folders = [hierarchy / name for hierarchy in _hierarchies()]

    def create(self) -> None:
        for folder in self._folders:
            _hand_down_controllers(folder.parent)
            for group in (folder, folder / "system"):
                group.mkdir(exist_ok=True)
                _hand_down_limits(group)
            _hand_down_controllers(folder)

    def joined(self, command: list[str]) -> list[str]:
        """The command, made to enter the group before it does anything else."""
        files = " ".join(str(folder / "system" / "cgroup.procs") for folder in self._folders)
        return ["sh", "-c", JOIN.format(files=files), "join", *command]

    def processes(self) -> set[int]:
        return {process for folder in self._groups() for process in _processes(folder)}

    def memory(self) -> int:
        """What the processes use and nobody else could have, in bytes."""
        return sum(_private_memory(process) for process in self.processes())

    @contextmanager
    def paused(self, program: str) -> Iterator[None]:
        """The processes of a program stand still while the block runs."""
        with _paused(self._running(program)):
            yield

    @contextmanager
    def container_paused(self, identity: str) -> Iterator[None]:
        """What runs in a container of a pod stands still while the block runs, or until it is killed."""
        with _paused(self._within(identity)):
            yield

    def kill_program(self, program: str) -> None:
        """End the processes of one program without a word; when this returns they are gone."""
        found = set(self._running(program))
        _signal(found, signal.SIGKILL)
        _until(lambda: not found & self.processes(), f"{program} does not end")

    def kill_pods(self) -> None:
        """End all that runs in pods without a word."""
        _signal(self._within(PODS), signal.SIGKILL)

    def _within(self, name: str) -> set[int]:
        """The processes of all groups of a name, and of those below them."""
        return {p for group in self._groups() if name in group.parts for p in _processes(group)}

    def _running(self, program: str) -> list[int]:
        found = [process for process in self.processes() if program_of(process) == program]
        assert found, f"no {program} is running"
        return found

    def kill(self) -> None:
        _until(self._kill_all, "processes of the cluster do not end")

    def remove(self) -> None:
        _until(self._remove_all, "the control groups of the cluster are in use")

    def _kill_all(self) -> bool:
        processes = self.processes()
        _signal(processes, signal.SIGKILL)
        return not processes

    def _remove_all(self) -> bool:
        for group in self._groups():
            with suppress(OSError):
                group.rmdir()
        return not any(folder.exists() for folder in self._folders)

    def _groups(self) -> list[Path]:
        """Every group of ours, the innermost first."""
        found = [Path(path) for folder in self._folders for path, _, _ in os.walk(folder)]
        return sorted(found, key=lambda path: -len(path.parts))


def _hierarchies() -> list[Path]:
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    return sorted(p for p in MOUNT.iterdir() if (p / "cgroup.procs").exists() and not p.is_symlink())


def _hand_down_controllers(group: Path) -> None:
    """In v2 a group's children have only the controllers that it names."""
    offered = group / "cgroup.controllers"
    wanted = set(CONTROLLERS) & set(offered.read_text().split()) if offered.exists() else set()
    control = group / "cgroup.subtree_control"
    for controller in wanted - set(control.read_text().split() if wanted else ()):
        control.write_text(f"+{controller}")


def _hand_down_limits(group: Path) -> None:
    """In v1 a new cpuset is empty, and no process may enter it."""
    for name in LIMITS:
        file, above = group / name, group.parent / name
        if file.exists() and above.exists() and not file.read_text().strip():
            file.write_text(above.read_text())


def _processes(group: Path) -> Iterator[int]:
    with suppress(OSError):
        yield from map(int, (group / "cgroup.procs").read_text().split())


def _private_memory(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def program_of(process: int) -> str:
    """Name of the program that a process runs; nothing, once it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


@contextmanager
def _paused(processes: Collection[int]) -> Iterator[None]:
    _signal(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(processes, signal.SIGCONT)


def _signal(processes: Iterable[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _until(done: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise ServerError(f"{complaint} after {PATIENCE:.0f} s")
        time.sleep(0.05)

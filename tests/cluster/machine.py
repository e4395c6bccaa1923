"""A machine within the machine: namespaces in which a whole cluster lives and ends.

Its first process does nothing but take in orphans. When that process dies the kernel ends all
others, and with them go their mounts, interfaces, rules and sockets: an ended cluster leaves
nothing because it never was outside. Files are the real ones, but for the folders that the
components insist on, which are the machine's own.
"""

import os
import subprocess
from pathlib import Path

from cluster import network
from cluster.cgroups import ControlGroup, program_of
from cluster.process import Process, run

FIRST_PROCESS = ["env", "--ignore-signal=CHLD", "sleep", "infinity"]
NAMESPACES = ["--mount", "--net", "--pid", "--uts", "--ipc"]
STATES = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))
"""Where components keep what they do wherever else they are told to."""
PRIVATE = """
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /run
for state in {states}; do mount -t tmpfs tmpfs $state; done
mount --bind {logs} /var/log
hostname {name}
"""
PRETEND = """
mkdir -p /run/settings
echo {value} > /run/settings/{setting}
mount --bind /run/settings/{setting} /proc/sys/{path}
"""
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


def hindrance() -> str:
    """Why no machine can live within this one; empty where it can."""
    if os.geteuid() != 0:
        return "it needs root"
    trial = ["unshare", "--fork", "--mount-proc", *NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/run"]
    tried = subprocess.run(trial, capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


class Machine:
    """`logs` is where its /var/log is seen from outside."""

    def __init__(self, group: ControlGroup, logs: Path) -> None:
        self._group = group
        self._logs = logs

    def start(self, name: str) -> None:
        for state in STATES:
            state.mkdir(exist_ok=True)
        self._group.create()
        unshare = [
            "unshare",
            "--fork",
            "--kill-child=KILL",
            "--propagation=slave",
            "--mount-proc",
            *NAMESPACES,
        ]
        log = self._logs / "machine.log"
        machine = Process(self._group.joined([*unshare, *FIRST_PROCESS]), log, detached=True)
        machine.launch()
        machine.await_answer(self.first_process, within=10)
        network.connect(self.first_process())
        script = PRIVATE.format(states=" ".join(map(str, STATES)), logs=self._logs, name=name)
        self.run("sh", "-c", script + _pretended_settings())

    def end(self) -> None:
        self._group.kill()
        self._group.remove()
        network.disconnect()
        for state in STATES:
            if state.is_dir() and not any(state.iterdir()):
                state.rmdir()

    def first_process(self) -> int:
        """Its id outside: the only one of ours that is number 1 in a namespace right below."""
        for process in sorted(self._group.processes()):
            if _numbers(process) == [process, 1] and program_of(process) == FIRST_PROCESS[-2]:
                return process
        raise ProcessLookupError("the machine is not running")

    def inside(self, *command: str) -> list[str]:
        """The command, made to run in the machine."""
        target = f"--target={self.first_process()}"
        return self._group.joined(["nsenter", target, *NAMESPACES, "--", *command])

    def run(self, *command: str, within: float = 120) -> str:
        return run(*self.inside(*command), within=within, name=" ".join(command))


def _pretended_settings() -> str:
    """kubelet insists on settings of the whole kernel: it sees them made, and changes none."""
    return "".join(
        PRETEND.format(value=value, setting=path.replace("/", "."), path=path)
        for path, value in KERNEL_SETTINGS.items()
    )


def _numbers(process: int) -> list[int]:
    """What a process is called in each process namespace that it is in, from here inwards."""
    for line in _about(process, "status").splitlines():
        if line.startswith("NSpid:"):
            return [int(number) for number in line.split()[1:]]
    return []


def _about(process: int, what: str) -> str:
    """Nothing, once the process has ended."""
    try:
        return Path(f"/proc/{process}/{what}").read_text()
    except OSError:
        return ""

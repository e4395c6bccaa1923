"""What a cluster could leave on a machine, listed so that before and after can be compared."""

import json
import os
from pathlib import Path

from cluster.build import cache
from cluster.process import run

MOUNT = Path("/sys/fs/cgroup")
FOLDERS = ("/etc/cni", "/opt/cni", "/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/pods")
SETTINGS = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom")


def traces() -> set[str]:
    """Processes with our paths, control groups, mounts, interfaces, routes, rules, settings, files."""
    return {*_processes(), *_control_groups(), *_mounts(), *_network(), *_settings(), *_files()}


def _processes() -> set[str]:
    commands = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            commands.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return {command for command in commands if str(cache() / "cluster") in command}


def _control_groups() -> set[str]:
    return {folder for folder, _, _ in os.walk(MOUNT) if "lorafinetune" in folder or "kubepods" in folder}


def _mounts() -> set[str]:
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def _network() -> set[str]:
    links = [f"interface {link['ifname']}" for link in json.loads(run("ip", "-json", "link"))]
    rules = [line for line in run("iptables-save").splitlines() if line.startswith("-")]
    namespaces = run("ip", "netns", "list").splitlines()
    return {*links, *run("ip", "route").splitlines(), *rules, *namespaces}


def _settings() -> set[str]:
    forwarding = Path("/proc/sys/net/ipv4/conf").glob("*/forwarding")
    paths = [*forwarding, *(Path("/proc/sys") / setting for setting in SETTINGS)]
    return {f"{path} is {path.read_text().strip()}" for path in paths}


def _files() -> set[str]:
    return {folder for folder in (*FOLDERS, str(cache() / "cluster")) if Path(folder).exists()}

"""How the cluster's own network is joined to this machine's: one cable, and a way out for pods.

The cluster lives in a network namespace, so its interfaces, rules and ports never meet those of the
machine, and go with its last process. Outside there is one end of a virtual cable with routes to
pods and Services; and, where the machine has a way out, the rules that let pods use it.
"""

import ipaddress
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cluster.process import ServerError, run

LINK = "lorafinetune0"
HOST = "10.245.0.1"
NODE = "10.245.0.2"
CABLE = "10.245.0.0/30"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
INSIDE = "10.244.0.0/15"
FORWARDING = Path("/proc/sys/net/ipv4/conf")
RULES = (
    ("nat", "POSTROUTING", "-s", INSIDE, "!", "-o", LINK, "-j", "MASQUERADE"),
    ("filter", "FORWARD", "-i", LINK, "-j", "ACCEPT"),
    ("filter", "FORWARD", "-o", LINK, "-j", "ACCEPT"),
)


def check_free() -> None:
    """Refuse to take addresses that this machine already sends elsewhere."""
    for route in json.loads(run("ip", "-json", "route", "show")):
        taken = route["dst"]
        if taken != "default" and _overlaps(taken):
            raise ServerError(f"the cluster needs {taken}, which is in use on this machine: {route}")


def connect(process: int) -> None:
    """Lay the cable to the network of `process`."""
    inside = ("nsenter", f"--net=/proc/{process}/ns/net")
    run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(process))
    run("ip", "address", "add", f"{HOST}/30", "dev", LINK)
    run("ip", "link", "set", LINK, "up")
    run(*inside, "ip", "address", "add", f"{NODE}/30", "dev", "eth0")
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "route", "add", "default", "via", HOST)
    for destination in (PODS, SERVICES):
        run("ip", "route", "add", destination, "via", NODE)


def disconnect() -> None:
    with suppress(OSError):
        run("ip", "link", "delete", LINK)


def open_way_out(memory: Path) -> None:
    """Let pods reach what this machine reaches; `memory` keeps what was before."""
    ways = [r["dev"] for r in json.loads(run("ip", "-json", "route", "show", "default"))]
    memory.write_text(json.dumps({way: _forwarding(way).read_text().strip() for way in ways}))
    for device in [LINK, *ways]:
        _forwarding(device).write_text("1")
    for rule in RULES if ways else ():
        run(*_iptables("-I", rule))


def close_way_out(memory: Path) -> None:
    """Put back what was before; nothing happens if the way was never open."""
    for rule in RULES:
        with suppress(OSError):
            run(*_iptables("-D", rule))
    if memory.exists():
        for device, before in json.loads(memory.read_text()).items():
            with suppress(OSError):
                _forwarding(device).write_text(before)


def name_servers() -> list[str]:
    """The resolvers of this machine that a pod can reach too: none on its loopback."""
    files = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
    lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
    servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return list(dict.fromkeys(server for server in servers if _reachable(server)))[:3]


def _reachable(server: str) -> bool:
    address = ipaddress.ip_address(server.partition("%")[0])
    return address.version == 4 and not address.is_loopback


def _overlaps(destination: str) -> bool:
    taken = ipaddress.ip_network(destination, strict=False)
    ours = (CABLE, PODS, SERVICES)
    return any(taken.overlaps(ipaddress.ip_network(network)) for network in ours)


def _forwarding(device: str) -> Path:
    return FORWARDING / device / "forwarding"


def _iptables(action: str, rule: Sequence[str]) -> list[str]:
    table, chain, *match = rule
    comment = ["-m", "comment", "--comment", LINK]
    return ["iptables", "-w", "-t", table, action, chain, *comment, *match]

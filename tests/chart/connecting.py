"""Opens connections in a network namespace in which a controller decides about each of them.

usage: unshare --net python -m chart.connecting, with what `chart.enforced` gives it as its input. It prints,
as JSON, which of the connections came about.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final

from cluster.process import run

PATIENCE: Final = 8.0
"""How long a connection may take, in seconds. One that is refused takes as long: its packets vanish."""
ASKED_EVERY: Final = 1.0
"""Seconds after which one asks again over UDP, as TCP does by itself: a queue that is full drops packets."""
QUEUES: Final = Path("/proc/net/netfilter/nfnetlink_queue")
KINDS: Final = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
Ends = tuple[str, str, int, str]


def come_about(given: dict[str, Any]) -> list[bool]:
    connections: list[Ends] = [tuple(each) for each in given["connections"]]
    _make_network(given["addresses"], given["rule"])
    with ExitStack() as leave:
        leave.enter_context(_deciding(given["controller"], given["queue"]))
        for _, target, port, protocol in dict.fromkeys((None, *each[1:]) for each in connections):
            leave.enter_context(_answering(target, port, protocol))
        with ThreadPoolExecutor(len(connections)) as pool:
            return list(pool.map(_comes_about, connections))


def _make_network(addresses: Sequence[str], rule: Sequence[str]) -> None:
    lines = ["link set lo up", *(f"address add {address} dev lo" for address in addresses)]
    run("ip", "-batch", "-", stdin="\n".join(lines))
    for command in ("iptables", "ip6tables"):
        run(command, *rule)


@contextmanager
def _deciding(command: Sequence[str], queue: int) -> Iterator[None]:
    """The controller, from when it takes the packets of the queue."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as controller:
        while not any(line.split()[0] == str(queue) for line in QUEUES.read_text().splitlines()):
            if controller.poll() is not None:
                raise RuntimeError("the controller ended before it decided anything")
            time.sleep(0.05)
        yield
        controller.communicate()


@contextmanager
def _answering(address: str, port: int, protocol: str) -> Iterator[None]:
    """A server that takes connections, and of UDP sends back what it gets."""
    with _socket(address, protocol) as server:
        server.bind((address, port))
        if protocol == "TCP":
            server.listen(100)
        else:
            Thread(target=_echo, args=[server], daemon=True).start()
        yield


def _echo(server: socket.socket) -> None:
    while True:
        said, client = server.recvfrom(100)
        server.sendto(said, client)


def _comes_about(ends: Ends) -> bool:
    source, target, port, protocol = ends
    with _socket(target, protocol) as client:
        client.settimeout(PATIENCE)
        client.bind((source, 0))
        try:
            client.connect((target, port))
        except TimeoutError:
            return False
        return protocol == "TCP" or _is_answered(client)


def _is_answered(client: socket.socket) -> bool:
    client.settimeout(ASKED_EVERY)
    for _ in range(round(PATIENCE / ASKED_EVERY)):
        client.send(b"anybody there?")
        with suppress(TimeoutError):
            return bool(client.recv(100))
    return False


def _socket(address: str, protocol: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, KINDS[protocol])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(come_about(json.load(sys.stdin))))

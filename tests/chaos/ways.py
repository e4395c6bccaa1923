"""Ways of packets that are cut on the node: each names one direction of the talk of two."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

MARK: Final = "chaos"
Run = Callable[..., str]


@dataclass(frozen=True)
class Way:
    """chain: of iptables, where its packets pass. match: which of them."""

    chain: str
    match: tuple[str, ...]

    def rule(self, action: str) -> tuple[str, ...]:
        """The command that adds (-I) or removes (-D) what drops them."""
        mark = ("-m", "comment", "--comment", MARK)
        return ("iptables", "-w", action, self.chain, "-p", "tcp", *self.match, *mark, "-j", "DROP")


def to(chain: str, port: int, *match: str) -> Way:
    """To whoever listens at a port."""
    return Way(chain, (*match, "--dport", str(port)))


def back(chain: str, port: int, *match: str) -> Way:
    """The answers of whoever listens at a port."""
    return Way(chain, (*match, "--sport", str(port)))


@contextmanager
def cut(run: Run, ways: Iterable[Way]) -> Iterator[Callable[[], int]]:
    """Nothing passes while the block runs, which is given how many packets would have. run: on the node."""
    laid: list[Way] = []
    try:
        for way in ways:
            run(*way.rule("-I"))
            laid.append(way)
        yield lambda: sum(dropped(run("iptables", "-w", "-vnxL", chain)) for chain in {w.chain for w in laid})
    finally:
        for way in laid:
            run(*way.rule("-D"))


def dropped(listing: str) -> int:
    """Packets of our rules, out of what iptables lists."""
    return sum(int(line.split()[0]) for line in listing.splitlines() if f"/* {MARK} */" in line)

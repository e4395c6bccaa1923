"""Where a hub, or whoever answers for its name, would lead a download: into the network that it runs in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from faults.attacks.attempt import Attempt
from hubs.files import Names
from hubs.huggingface import HuggingFaceHub
from hubs.repository import Repository, model
from hubs.server import Answer, Request, redirected
from lorafinetune_stages.hubs.patience import ATTEMPTS as TRIES
from stages.download_builders import Bench, hub

NOT_FOLLOWED: Final = "which is not followed"
METADATA: Final = "169.254.169.254"
LISTING: Final = "/api/models/owner/model"
WEIGHTS: Final = "model.safetensors"


@dataclass
class Web:
    """A hub on loopback that is known as hub.test, and to which names lead where the attempt says."""

    server: HuggingFaceHub
    names: Names
    bench: Bench

    def told(self) -> str:
        return self.bench.refusal().message


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    names = Names(hub_test=["127.0.0.1"], inner_test=[METADATA], both_test=["8.8.8.8", METADATA])
    monkeypatch.setattr("socket.getaddrinfo", names)
    with HuggingFaceHub({"models/owner/model": Repository(model())}) as server:
        yield Web(server, names, Bench(tmp_path, hub(f"http://hub.test:{server.port}")))


def to(location: str) -> Callable[[Web], str]:
    """The hub redirects its weights there, however often it is asked."""

    def attempt(web: Web) -> str:
        web.server.fail(WEIGHTS, *[redirected(location.encode().decode("latin-1"))] * TRIES)
        return web.told()

    return attempt


def chain(web: Web) -> str:
    """A harmless step first: back to the hub, and from there to a file."""
    web.server.fail(WEIGHTS, redirected(f"/elsewhere/{WEIGHTS}"), redirected("file:///etc/passwd"))
    return web.told()


def rebound(web: Web) -> str:
    """A name that means a public machine while it is looked at, and another one when it is connected to."""
    web.names.answers["other.test"] = [["8.8.8.8"], [METADATA]]
    return to("http://other.test/model.safetensors")(web)


def hub_rebound(web: Web) -> str:
    """The hub's own name means the metadata server after the listing."""

    def moved(_request: Request, right: Answer) -> Answer:
        web.names.answers["hub.test"] = [[METADATA]]
        return right

    web.server.fail(LISTING, moved)
    return web.told()


def widened(web: Web) -> str:
    """The hub's own name becomes a link-local one: a redirect to such a one seems to stay in its network."""

    def moved(_request: Request, _right: Answer) -> Answer:
        web.names.answers["hub.test"] = [[METADATA, "127.0.0.1"]]
        return Answer(302, headers={"Location": f"http://{METADATA}/latest/"})

    web.server.fail(WEIGHTS, moved)
    return web.told()


A_HUB: Final = "whoever runs a hub"
LINK_LOCAL: Final = f"a link-local address, {NOT_FOLLOWED}"
ATTEMPTS: dict[str, Attempt[Web]] = {
    "an address in one number": Attempt(A_HUB, to("http://2852039166/x"), LINK_LOCAL),
    "an address in one hexadecimal number": Attempt(A_HUB, to("http://0xa9fea9fe/x"), LINK_LOCAL),
    "an address in octal numbers": Attempt(A_HUB, to("http://0251.0376.0251.0376/x"), "can't be"),
    "an address of two numbers": Attempt(A_HUB, to("http://169.16689662/x"), LINK_LOCAL),
    "an address in wide digits": Attempt(A_HUB, to("http://１６９.２５４.１６９.２５４/x"), "can't be"),
    "an address with circled digits and a Chinese full stop": Attempt(
        A_HUB, to("http://①⑥⑨。②⑤④。①⑥⑨。②⑤④/x"), "can't be"
    ),
    "an address with a full stop at its end": Attempt(A_HUB, to(f"http://{METADATA}./x"), "can't be"),
    "an IPv4 address in IPv6": Attempt(A_HUB, to("http://[::ffff:a9fe:a9fe]/x"), LINK_LOCAL),
    "an IPv4 address in an older IPv6": Attempt(A_HUB, to("http://[::a9fe:a9fe]/x"), LINK_LOCAL),
    "an IPv4 address behind a translator": Attempt(A_HUB, to("http://[64:ff9b::a9fe:a9fe]/x"), LINK_LOCAL),
    "an IPv4 address behind a tunnel": Attempt(A_HUB, to("http://[2002:a9fe:a9fe::]/x"), LINK_LOCAL),
    "an IPv6 address with a zone": Attempt(A_HUB, to("http://[fe80::1%25eth0]/x"), "can't be"),
    "the metadata server of AWS, by IPv6": Attempt(
        A_HUB, to("http://[fd00:ec2::254]/x"), "a private address"
    ),
    "the wire server of Azure": Attempt(A_HUB, to("http://168.63.129.16/machine/"), LINK_LOCAL),
    "the metadata server of Alibaba": Attempt(A_HUB, to("http://100.100.100.200/x"), "a private address"),
    "all machines at once": Attempt(A_HUB, to("http://224.0.0.1/x"), "a private address"),
    "a name that means an inner address": Attempt(A_HUB, to("http://inner.test/x"), LINK_LOCAL),
    "a name that means an inner address too": Attempt(A_HUB, to("http://both.test/x"), LINK_LOCAL),
    "an inner address behind a user's name": Attempt(A_HUB, to(f"http://hub.test@{METADATA}/x"), LINK_LOCAL),
    "an inner address without a scheme": Attempt(A_HUB, to(f"//{METADATA}/x"), LINK_LOCAL),
    "a file, after a step within the hub": Attempt(A_HUB, chain, f"file://, {NOT_FOLLOWED}"),
    "a scheme in capitals": Attempt(A_HUB, to("FILE:///etc/passwd"), f"file://, {NOT_FOLLOWED}"),
    "data in the address itself": Attempt(A_HUB, to("data:text/plain,x"), "something else than an address"),
    "an address that is none": Attempt(A_HUB, to("http://[::1/x"), "can't be reached"),
    "a name that means another machine a moment later": Attempt(A_HUB, rebound, LINK_LOCAL),
    "the hub's own name that means another machine a moment later": Attempt(A_HUB, hub_rebound, LINK_LOCAL),
    "a network that the hub says it is in, later": Attempt(A_HUB, widened, LINK_LOCAL),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_a_download_is_not_led_to(sentence: str, web: Web) -> None:
    attempt = ATTEMPTS[sentence]
    words = attempt.try_(web)
    assert attempt.refusal in words
    assert words.isprintable()
    assert not [entry.key for entry in web.bench.store.list("models") if entry.key.endswith(WEIGHTS)]

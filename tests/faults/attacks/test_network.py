"""Where a hub, or whoever answers for its name, would lead a download: into the network that it runs in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from faults.attacks.attempt import Attempt
from faults.attacks.written import Written, attempts
from hubs.files import Names
from hubs.huggingface import HuggingFaceHub
from hubs.repository import Repository, model
from hubs.server import Answer, Request, redirected
from lorafinetune_stages.hubs.retry import ATTEMPTS as TRIES
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


class Redirect(Written):
    location: str


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


def public_and_inner(web: Web) -> str:
    """The hub has two addresses from the beginning, and one of them is what it would lead to."""
    web.names.answers["hub.test"] = [["8.8.8.8", "10.0.0.1"]]
    return web.told()


A_HUB: Final = "whoever runs a hub"
LINK_LOCAL: Final = f"a link-local address, {NOT_FOLLOWED}"
WRITTEN: Final = attempts("redirects", Redirect, lambda file: to(file.location))
ATTEMPTS: dict[str, Attempt[Web]] = WRITTEN | {
    "a file, after a step within the hub": Attempt(A_HUB, chain, f"file://, {NOT_FOLLOWED}"),
    "a name that means another machine a moment later": Attempt(A_HUB, rebound, LINK_LOCAL),
    "the hub's own name that means another machine a moment later": Attempt(A_HUB, hub_rebound, LINK_LOCAL),
    "a network that a public hub says it is in, too": Attempt(
        A_HUB, public_and_inner, f"hub.test is a private address, {NOT_FOLLOWED}"
    ),
    "a network that the hub says it is in, later": Attempt(A_HUB, widened, LINK_LOCAL),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_a_download_is_not_led_to(sentence: str, web: Web) -> None:
    attempt = ATTEMPTS[sentence]
    words = attempt.try_(web)
    assert attempt.refusal in words
    assert words.isprintable()
    assert not [entry.key for entry in web.bench.store.list("models") if entry.key.endswith(WEIGHTS)]

"""The proxy that guards a program's connections."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from hubs.server import Answer, Request, Server
from lorafinetune.api.sources import Connection
from lorafinetune_stages.hubs.guard import RedirectGuard
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.proxy import GuardedProxy, guarded


class Echo(Server):
    """Says what it was asked."""

    def answer(self, request: Request) -> Answer:
        return Answer(body=f"{request.method} {request.path} {request.query} {request.body!r}".encode())


@contextmanager
def guarding(url: str) -> Iterator[GuardedProxy]:
    origin = Origin(
        "spec.export.trackers[0]",
        "models",
        "wandb",
        connection=Connection(name="tracker", endpoint=url),
        name="name",
    )
    with guarded(RedirectGuard(origin).check) as proxy:
        yield proxy


def spoken(proxy: GuardedProxy, *lines: bytes) -> bytes:
    """The beginning of the answer to these lines."""
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(b"".join(line + b"\r\n" for line in lines))
        return client.recv(64).partition(b"\r\n")[0]


def test_a_request_is_passed_on_as_it_is() -> None:
    with Echo() as server, guarding(server.url) as proxy, httpx.Client(proxy=proxy.url) as client:
        for _ in range(2):
            answer = client.post(f"{server.url}/a/b?c=d", content=b"x" * 100_000)
            assert answer.text == f"POST /a/b {{'c': 'd'}} {b'x' * 100_000!r}"
            assert answer.headers["Connection"] == "close"
        assert "Proxy-Connection" not in server.requests[0].headers
        assert proxy.refusals == []


def test_a_tunnel_leads_to_the_server() -> None:
    with Echo() as server, guarding(server.url) as proxy:
        place = server.url.removeprefix("http://").encode()
        assert spoken(proxy, b"CONNECT %s HTTP/1.1" % place, b"") == b"HTTP/1.1 200 Connection established"


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT 169.254.169.254:80 HTTP/1.1",
        b"GET http://169.254.169.254/latest HTTP/1.1",
        b"CONNECT [::ffff:169.254.169.254]:443 HTTP/1.1",
        b"GET http://10.0.0.1/ HTTP/1.1",
    ],
)
def test_no_way_leads_into_the_network(line: bytes) -> None:
    with Echo() as server, guarding(server.url) as proxy:
        assert spoken(proxy, line, b"") == b"HTTP/1.1 403 Forbidden"
        assert [refusal.reason for refusal in proxy.refusals] == ["ConfigInvalid"]


@pytest.mark.parametrize(
    "line", [b"nonsense", b"GET / HTTP/1.1", b"GET ftp://host/ HTTP/1.1", b"CONNECT host:port HTTP/1.1"]
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with Echo() as server, guarding(server.url) as proxy:
        assert spoken(proxy, line, b"") == b"HTTP/1.1 400 Bad Request"


def test_headers_without_an_end_are_refused() -> None:
    with Echo() as server, guarding(server.url) as proxy:
        answer = spoken(proxy, b"GET http://127.0.0.1/ HTTP/1.1", *[b"A: b"] * 101)
        assert answer == b"HTTP/1.1 400 Bad Request"


def test_a_host_that_nobody_knows_is_no_way() -> None:
    with Echo() as server, guarding(server.url) as proxy:
        assert spoken(proxy, b"CONNECT nobody.invalid:443 HTTP/1.1", b"") == b"HTTP/1.1 502 Bad Gateway"

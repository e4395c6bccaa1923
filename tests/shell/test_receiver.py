"""The receiver over real TLS: what it answers, and what it does not fall for."""

import contextlib
import gzip
import http.client
import json
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lorafinetune.contract.outcome import Progress
from lorafinetune.core.jobs import Receiver
from lorafinetune.shell.authority import IS_READ_EVERY, Authority
from lorafinetune.shell.receiver import server
from lorafinetune.shell.receiver.bodies import MAX_BODY_BYTES
from lorafinetune.shell.receiver.rate import BURST
from shell.issuing import ENDED, POD, Cluster, claims, signed, token
from shell.site import HOST, PATH, Site
from unit.test_shell_queue import Clock

ELSEWHERE = "127.0.0.2"
"""Another address of this machine."""
BODY = b'{"stage": "train", "activity": "training", "done": 42, "total": 100}'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as served:
        yield served


def test_takes_the_progress_of_a_live_pod_for_its_job(site: Site) -> None:
    assert site.ask(BODY, token()).status == 204
    expected = Progress(stage="train", activity="training", done=42, total=100)
    assert site.taken == [("team-a", "lft-train-0123", expected)]
    assert site.refused == []


def test_answers_kubeflows_client_as_its_own_server_does(site: Site) -> None:
    answer = site.ask(b'{"trainerStatus": {"progressPercentage": 42}}', token())
    assert (answer.status, json.loads(answer.text)) == (
        200,
        {"trainerStatus": {"progressPercentage": 42, "metrics": []}},
    )
    assert [(job, progress.done) for _, job, progress in site.taken] == [("lft-train-0123", 42)]


Case = tuple[int, bytes, Callable[[], str | None]]
REFUSED: dict[str, Case] = {
    "no token": (401, BODY, lambda: None),
    "a garbled token": (401, BODY, lambda: "a.b.c"),
    "a token of another cluster": (401, BODY, lambda: token(key="foreign")),
    "a token under another key's name": (401, BODY, lambda: signed(claims(), "foreign", "elliptic")),
    "an expired token": (401, BODY, lambda: token(exp=int(time.time()) - 60)),
    "a token for something else": (401, BODY, lambda: token(aud=["https://kubernetes.default.svc"])),
    "a token of a pod that ended": (403, BODY, lambda: token(ENDED)),
    "nothing": (400, b"", token),
    "garbled JSON": (400, b'{"stage": ', token),
    "an unknown field": (400, b'{"stage": "train", "colour": "red"}', token),
    "too much": (413, b" " * (MAX_BODY_BYTES + 1), token),
    "too much without a token": (401, b" " * (MAX_BODY_BYTES + 1), lambda: None),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refuses(sentence: str, site: Site) -> None:
    status, body, shown = REFUSED[sentence]
    answer = site.ask(body, shown())
    assert (answer.status, site.taken) == (status, [])
    assert (status == 401) == ("WWW-Authenticate" in answer.headers)
    assert site.refused == [server.REFUSALS[status]]


def test_the_largest_body_is_read(site: Site) -> None:
    assert site.ask(BODY + b" " * (MAX_BODY_BYTES - len(BODY)), token()).status == 204


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", PATH, 405), ("PUT", PATH, 405), ("POST", "/", 404), ("POST", f"{PATH}/../progress", 404)],
)
def test_there_is_one_path_and_one_method(method: str, path: str, status: int, site: Site) -> None:
    assert site.ask(BODY, token(), method, path).status == status
    assert site.taken == []


def test_nothing_is_unpacked(site: Site) -> None:
    context = ssl.create_default_context(cadata=site.ca)
    connection = http.client.HTTPSConnection(HOST, site.port, timeout=10, context=context)
    headers = {"Authorization": f"Bearer {token()}", "Content-Encoding": "gzip"}
    with contextlib.closing(connection):
        connection.request("POST", PATH, gzip.compress(BODY), headers)
        assert connection.getresponse().status == 400
    assert site.taken == []


def test_a_fault_of_our_own_is_told_to_the_log_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site, "taken", None)
    answer = site.ask(BODY, token())
    assert (answer.status, answer.text) == (500, "")
    assert "a post could not be answered" in caplog.text


def test_a_pod_that_leaves_is_no_longer_listened_to(site: Site) -> None:
    shown = token()
    assert site.ask(BODY, shown).status == 204
    del site.pods[POD.uid]
    assert site.ask(BODY, shown).status == 403


def test_a_pod_that_posts_without_end_is_told_to_wait(site: Site) -> None:
    answers = [site.ask(BODY, token()) for _ in range(BURST + 1)]
    assert [answer.status for answer in answers] == [204] * BURST + [429]
    assert answers[-1].headers["Retry-After"] == "1"
    assert site.refused == ["too often"]


def test_tells_that_it_can_not_tell(tmp_path: Path) -> None:
    with Site(tmp_path, Cluster(readable=False, vouched=None)) as site:
        answer = site.ask(BODY, token())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert site.refused == ["not verifiable"]


def test_a_renewed_certificate_is_shown_to_the_next_client(site: Site) -> None:
    site.ask(BODY, token())
    site.certify()
    assert site.ask(BODY, token()).status == 204


def test_a_certificate_that_can_not_be_read_replaces_none(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    (site.folder / "tls.key").write_text("half a k")
    assert [site.ask(BODY, token()).status for _ in range(2)] == [204, 204]
    assert caplog.text.count("kept the old certificate") == 1


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["is away", "is no text"])
def test_an_authority_replaces_none_that(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, file = Clock(), tmp_path / "ca.crt"
    file.write_text("the first")
    authority = Authority("https://op.svc/progress", tmp_path, clock)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    clock.now += IS_READ_EVERY
    told = Receiver("https://op.svc/progress", "the first")
    assert [authority.receiver() for _ in range(2)] == [told, told]
    assert caplog.text.count("kept the old authority") == 1
    file.write_text("the second")
    clock.now += IS_READ_EVERY
    assert authority.receiver().ca == "the second"


def test_without_a_certificate_it_does_not_start(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "tls.key").unlink()
    with pytest.raises(FileNotFoundError):
        server.Server(
            server.ReceiverSettings(HOST, 0, tmp_path),
            site.pods.get,
            lambda *_: None,
            site.refused.append,
            site.api.read,
            site.api.review,
        )


def test_speaks_no_old_tls(site: Site) -> None:
    old = ssl.create_default_context(cadata=site.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    hung_up = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    with socket.create_connection((HOST, site.port), 5) as raw, pytest.raises(hung_up):
        old.wrap_socket(raw, server_hostname=HOST)


def connected(site: Site, source: str = HOST) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=site.ca)
    plain = socket.create_connection((HOST, site.port), 5, (source, 0))
    return context.wrap_socket(plain, server_hostname=HOST)


def is_welcome(site: Site, source: str) -> bool:
    """Whether the server shakes hands with a client of that address."""
    with contextlib.suppress(OSError), connected(site, source):
        return True
    return False


def ends(connection: socket.socket) -> bool:
    """Whether the server closes the connection within three seconds, and says nothing before."""
    connection.settimeout(3)
    try:
        return connection.recv(100) == b""
    except (ConnectionResetError, ssl.SSLError):
        return True


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n"
SLOW: dict[str, tuple[str, bytes]] = {
    "never shakes hands": ("HANDSHAKE_SECONDS", b""),
    "never asks": ("IDLE_SECONDS", b""),
    "never ends its headers": ("IDLE_SECONDS", HEAD.encode()),
    "outstays its welcome": ("CONNECTION_SECONDS", HEAD.encode()),
}


@pytest.mark.parametrize("sentence", SLOW)
def test_a_client_is_let_go_that(sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, says = SLOW[sentence]
    monkeypatch.setattr(server, limit, 0.2)
    with Site(tmp_path) as site:
        plain = socket.create_connection((HOST, site.port), 5)
        with plain if limit == "HANDSHAKE_SECONDS" else connected(site) as connection, plain:
            connection.sendall(says)
            assert ends(connection)


def test_a_body_that_never_ends_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    with Site(tmp_path) as site, connected(site) as connection:
        connection.sendall(f"{HEAD}Authorization: Bearer {token()}\r\n\r\n{{".encode())
        connection.settimeout(5)
        assert connection.recv(12) == b"HTTP/1.1 408"


def test_connections_beyond_the_bound_are_closed_and_then_welcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    with Site(tmp_path) as site:
        held = [connected(site), socket.create_connection((HOST, site.port), 5)]
        with socket.create_connection((HOST, site.port), 5) as beyond:
            assert ends(beyond)
        assert site.refused == [server.TOO_MANY]
        for connection in held:
            connection.close()
        wait_until(lambda: posted(site))


def test_an_address_that_holds_all_that_it_can_keeps_nobody_else_out(site: Site) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(server.CONNECTIONS + 50):
            held.enter_context(socket.create_connection((HOST, site.port), 5, (ELSEWHERE, 0)))
        assert [site.ask(BODY, token()).status for _ in range(BURST)] == [204] * BURST
    assert set(site.refused) == {server.TOO_MANY}
    wait_until(lambda: is_welcome(site, ELSEWHERE))


def test_whoever_floods_and_leaves_holds_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    monkeypatch.setattr(server, "CONNECTION_SECONDS", 0.5)
    flood = f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9000000\r\n\r\n{' ' * 900_000}"
    with Site(tmp_path) as site:
        for _ in range(6):
            with contextlib.suppress(OSError), connected(site) as connection:
                connection.settimeout(0.2)
                connection.sendall(flood.encode())
        wait_until(lambda: posted(site))


def posted(site: Site) -> bool:
    try:
        return site.ask(BODY, token()).status == 204
    except OSError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


RUDE: dict[str, bytes] = {
    "speaks another protocol": b"\x00\x01\x02" * 100 + b"\r\n\r\n",
    "has endless headers": f"{HEAD}X: {'x' * 100_000}\r\n\r\n".encode(),
    "leaves in the middle of its body": f"{HEAD}Authorization: Bearer TOKEN\r\n\r\n{{".encode(),
    "has a body of garbled chunks": (
        f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n"
        "Authorization: Bearer TOKEN\r\n\r\nzz\r\n"
    ).encode(),
    "sends two lengths": f"{HEAD}Content-Length: 5\r\n\r\n".encode(),
}


@pytest.mark.parametrize("sentence", RUDE)
def test_nothing_is_said_of_a_client_that(
    sentence: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with connected(site) as connection, contextlib.suppress(OSError):
        connection.sendall(RUDE[sentence].replace(b"TOKEN", token().encode()))
    assert site.ask(BODY, token()).status == 204
    assert caplog.records == []

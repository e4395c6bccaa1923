"""An HTTP server on loopback that remembers what it was asked, and can be told to fail."""

import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

LOOPBACK: Final = ("127.0.0.1", 0)


@dataclass(frozen=True)
class Request:
    """What a client asked. path: decoded. query: the first value of each parameter. headers: by names
    like `User-Agent`, however they were spelled."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def target(self) -> str:
        """The path, or the file that ModelScope is asked for in a parameter."""
        return self.query.get("FilePath", self.path)

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None


@dataclass(frozen=True)
class Answer:
    """What it gets. cut: bytes of the body after which the connection is dropped. status: 0 for nothing."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


Fault = Callable[[Request, Answer], Answer]
"""Changes the answer that would have been right."""


def failing(status: int, **headers: str) -> Fault:
    """Another status, and an error in HTML, as a load balancer sends it."""
    return lambda _request, _right: Answer(status, b"<html>sorry</html>", _named(headers))


def cut_after(count: int) -> Fault:
    """The connection is dropped after so many bytes of the body."""
    return lambda _request, right: replace(right, cut=count)


def redirected(url: str) -> Fault:
    return lambda _request, _right: Answer(302, headers={"Location": url})


def hung_up(_request: Request, _right: Answer) -> Answer:
    """The connection is dropped without a word."""
    return Answer(0)


def sending(body: bytes) -> Fault:
    """Another body in place of the right one."""
    return lambda _request, right: replace(right, body=body)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Server:
    """Serves `answer`, a method of the subclasses. requests: everything that was asked, in order. tls: what
    it proves itself by; without, it speaks plain HTTP. address: where it listens; port 0 for any."""

    address = LOOPBACK

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.sent = 0
        self._faults: list[tuple[str, Fault, bool]] = []
        self._lock = threading.Lock()
        self._server = _Listener(self, tls)
        self.port = self._server.server_port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, target: str, *faults: Fault) -> None:
        """The next requests whose target ends so fail in these ways, one after the other."""
        with self._lock:
            self._faults += [(target, fault, True) for fault in faults]

    def refuse(self, target: str, *faults: Fault) -> None:
        """As `fail`, but nothing of what was asked is done."""
        with self._lock:
            self._faults += [(target, fault, False) for fault in faults]

    def asked(self, target: str) -> list[Request]:
        """The requests whose target ends so."""
        return [request for request in self.requests if request.target.endswith(target)]

    def forget(self) -> None:
        self.requests.clear()
        self.sent = 0

    def handle(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            fault, done = self._next_fault(request)
        right = self.answer(request) if done else Answer()
        return fault(request, right) if fault else right

    def _next_fault(self, request: Request) -> tuple[Fault | None, bool]:
        """What goes wrong, and whether what was asked is done all the same."""
        for index, (target, fault, done) in enumerate(self._faults):
            if request.target.endswith(target):
                del self._faults[index]
                return fault, done
        return None, True


def ranged(request: Request, body: bytes, headers: Mapping[str, str]) -> Answer:
    """A file, or the part of it that the request asks for."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not asked:
        return Answer(200, body, headers)
    start, end = int(asked[1]), int(asked[2] or len(body) - 1)
    part = body[start : end + 1]
    return Answer(206, part, {**headers, "Content-Range": f"bytes {start}-{end}/{len(body)}"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Listener"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing: the requests are remembered."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.title(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("Content-Length", "0")))
        answer = self.server.hub.handle(Request(self.command, unquote(url.path), query, headers, body))
        if not answer.status:
            self._hang_up()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not {name.lower() for name in answer.headers} & {"content-length", "transfer-encoding"}:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        body = answer.body[: answer.cut]
        self.server.hub.sent += len(body)
        self.wfile.write(body)
        if answer.cut is not None:
            self.wfile.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Server, tls: ssl.SSLContext | None) -> None:
        self.hub = hub
        super().__init__(hub.address, _Handler)
        if tls:  # whoever is slow to shake hands keeps nobody else waiting
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)

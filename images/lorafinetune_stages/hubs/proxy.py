"""A proxy that guards the connections of a program which makes its own: the program is told to use this
proxy.

It connects only to what a guard lets through, and to the very address that was checked.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Final
from urllib.parse import SplitResult, urlsplit

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.addresses import addresses
from lorafinetune_stages.hubs.pinned_transport import Check

MAX_LINE: Final = 2**16
MAX_HEADERS: Final = 100
CHUNK: Final = 2**16
PATIENCE_SECONDS: Final = 30.0
PORTS: Final = {"http": 80, "https": 443}
CONNECT: Final = b"CONNECT"
HOP: Final = (b"connection:", b"proxy-connection:", b"proxy-authorization:")


class _Proxy(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, check: Check) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.check = check
        self.refusals: list[StageError] = []


class GuardedProxy:
    """url: where it listens. refusals: why it did not connect, in order."""

    def __init__(self, proxy: _Proxy) -> None:
        self.url = f"http://127.0.0.1:{proxy.server_address[1]}"
        self.refusals = proxy.refusals


@contextmanager
def guarded(check: Check) -> Iterator[GuardedProxy]:
    """A proxy that listens on this machine while it is entered. check: raises StageError for a host, with its
    addresses, that may not be reached."""
    with _Proxy(check) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield GuardedProxy(proxy)
        finally:
            proxy.shutdown()
            thread.join()


class _Visit(StreamRequestHandler):
    """One connection of the program: one tunnel, or one request."""

    server: _Proxy
    timeout = PATIENCE_SECONDS
    rbufsize = 0
    """What follows the headers is for the thread that sends it on."""

    def handle(self) -> None:
        with suppress(OSError):
            try:
                method, target, headers = self._asked()
                self._serve(method, urlsplit(f"https://{target}" if method == CONNECT else target), headers)
            except (ValueError, KeyError):
                self._answer(b"400 Bad Request")
            except StageError as refusal:
                self.server.refusals.append(refusal)
                self._answer(b"403 Forbidden")

    def _asked(self) -> tuple[bytes, str, list[bytes]]:
        method, target, _ = self.rfile.readline(MAX_LINE).split(b" ")
        headers = []
        while (line := self.rfile.readline(MAX_LINE)).strip():
            headers.append(line)
            if len(headers) > MAX_HEADERS:
                raise ValueError("too many headers")
        return method, target.decode("ascii"), headers

    def _serve(self, method: bytes, url: SplitResult, headers: list[bytes]) -> None:
        server = self._connected(url.hostname or "", url.port or PORTS[url.scheme])
        if server is None:
            self._answer(b"502 Bad Gateway")
            return
        with server, server.makefile("rb") as answer:
            if method == CONNECT:
                self._answer(b"200 Connection established", b"")
            else:
                server.sendall(_head(method, url, headers))
            Thread(target=self._send, args=(server,), daemon=True).start()
            if method != CONNECT and (status := answer.readline(MAX_LINE)):
                self.wfile.write(status + b"Connection: close\r\n")
            while data := answer.read1(CHUNK):
                self.wfile.write(data)
        self.request.shutdown(socket.SHUT_RDWR)

    def _connected(self, host: str, port: int) -> socket.socket | None:
        """Raises StageError where the host may not be reached."""
        found = addresses(host)
        self.server.check(host, found)
        for address in found:
            with suppress(OSError):
                return socket.create_connection((address, port), PATIENCE_SECONDS)
        return None

    def _send(self, server: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while data := self.request.recv(CHUNK):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, status: bytes, ending: bytes = b"Content-Length: 0\r\nConnection: close\r\n") -> None:
        self.wfile.write(b"HTTP/1.1 %s\r\n%s\r\n" % (status, ending))


def _head(method: bytes, url: SplitResult, headers: list[bytes]) -> bytes:
    """The beginning of a request as its server wants it: no other follows it on this connection."""
    path = url._replace(scheme="", netloc="").geturl() or "/"
    kept = [line for line in headers if not line.lower().startswith(HOP)]
    begin = b"%s %s HTTP/1.1\r\n" % (method, path.encode("ascii"))
    return b"".join((begin, *kept, b"Connection: close\r\n\r\n"))

"""Servers that are not the receiver: one remembers who came to it, one says nothing."""

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shell.site import HOST


class Recorder(http.server.BaseHTTPRequestHandler):
    """Sends everybody on to the address that its server names, and remembers who came."""

    server: "Elsewhere"

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.send_header("Location", self.server.location)
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(502)

    def log_message(self, *_: Any) -> None:
        """Nothing: what was asked is remembered."""


class Elsewhere(http.server.ThreadingHTTPServer):
    """A web server on loopback. folder: of its certificate; without one it speaks plain HTTP."""

    def __init__(self, folder: Path | None = None, status: int = 204, location: str = "") -> None:
        super().__init__((HOST, 0), Recorder)
        self.asked: list[str] = []
        self.status, self.location = status, location
        if folder:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    @contextmanager
    def serving(self) -> Iterator["Elsewhere"]:
        thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        thread.start()
        yield self
        self.shutdown()
        thread.join()
        self.server_close()


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"https://{HOST}:{listener.getsockname()[1]}/progress"

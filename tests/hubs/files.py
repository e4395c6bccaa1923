"""A web server with files, over TLS, and the names and certificates by which it is known."""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.certificates import Authority
from hubs.repository import sha256
from hubs.server import Answer, Request, Server, ranged

Lookup = Callable[..., list[Any]]


class FileServer(Server):
    """files: by path. facts: headers that are sent with each; by default what most web servers send."""

    def __init__(self, files: Mapping[str, bytes], tls: ssl.SSLContext) -> None:
        super().__init__(tls)
        self.files = dict(files)
        self.facts: Mapping[str, str] | None = None

    def answer(self, request: Request) -> Answer:
        body = self.files.get(request.path)
        if body is None:
            return Answer(404, b"<html>not found</html>", {"Content-Type": "text/html"})
        usual = {"ETag": f'"{sha256(body)[:16]}"', "Content-Type": "application/octet-stream"}
        return ranged(request, body, usual if self.facts is None else self.facts)


class Names:
    """A resolver that knows some names: each has its addresses, and may have others at the next question.
    asked: the names that it was asked for."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): [list(found)] for name, found in names.items()}
        self.asked: list[str] = []
        self._real: Lookup = socket.getaddrinfo

    def then(self, name: str, *addresses: str) -> None:
        """What the name means from the next question on."""
        self.answers[name].append(list(addresses))

    def __call__(self, host: str, *rest: Any, **options: Any) -> list[Any]:
        answers = self.answers.get(host)
        if answers is None:
            return self._real(host, *rest, **options)
        self.asked.append(host)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [one for address in found for one in self._real(address, *rest, **options)]


def certified(folder: Path, *hosts: str) -> ssl.SSLContext:
    """What a server at these hosts proves itself by; `ca.crt` in the folder is whose word it is."""
    Authority(folder).issue("server", hosts=hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context

"""How the API server is reached: as the pod's service account, or as a kubeconfig says.

A service account's token is renewed on disk, so a request reads it again when it has become old.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import kopf

from lorafinetune.shell.paths import Call, call

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_IS_READ_EVERY: Final = 30.0
REQUEST_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=10)
CONNECTIONS: Final = 64
UNLIMITED: Final = 0
"""For watches: each namespace has several, and keeps a connection for each."""

Noticed = Callable[[Call, int], None]
"""Is told of each answer: the call, and the HTTP status, 0 where there was none."""


class NoClusterError(RuntimeError):
    """Nothing says where the API server is, or how to log in."""


@dataclass(frozen=True)
class ServerConnection:
    """Address and credentials. headers: those of a request that is made now."""

    server: str
    context: ssl.SSLContext
    headers: Callable[[], Mapping[str, str]]

    def session(self, noticed: Noticed, limit: int = CONNECTIONS) -> aiohttp.ClientSession:
        """A session that logs in with each request. limit: of its connections; 0 for none."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, ssl=self.context),
            timeout=REQUEST_TIMEOUT,
            middlewares=(self._login, _notice(noticed)),
        )

    async def _login(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(self.headers())
        return await handler(request)


def connect(environment: Mapping[str, str]) -> ServerConnection:
    """The kubeconfig that KUBECONFIG names, or else the service account, or else the kubeconfig at home.

    Raises NoClusterError.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host and not environment.get("KUBECONFIG") and (ACCOUNT / "token").exists():
        return _as_service_account(host, environment.get("KUBERNETES_SERVICE_PORT", "443"), ACCOUNT)
    try:
        found = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    except (OSError, KeyError, kopf.LoginError) as problem:
        raise NoClusterError(f"the kubeconfig can't be used: {problem!r}") from problem
    if found is None:
        raise NoClusterError("there is neither a service account nor a kubeconfig")
    headers = found.as_http_headers()
    if not headers and not (found.certificate_path or found.certificate_data):
        raise NoClusterError("the kubeconfig's user has neither a token nor a certificate")
    return ServerConnection(found.server.rstrip("/"), found.as_ssl_context(), lambda: headers)


def _as_service_account(host: str, port: str, folder: Path) -> ServerConnection:
    address = f"[{host}]" if ":" in host else host
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    return ServerConnection(f"https://{address}:{port}", context, TokenFile(folder / "token"))


class TokenFile:
    """The header that a token makes; the file is read again every half minute."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._read_at = float("-inf")
        self._headers: Mapping[str, str] = {}

    def __call__(self) -> Mapping[str, str]:
        if self._clock() - self._read_at >= TOKEN_IS_READ_EVERY:
            self._headers = {"Authorization": f"Bearer {self._file.read_text().strip()}"}
            self._read_at = self._clock()
        return self._headers


def _notice(noticed: Noticed) -> aiohttp.ClientMiddlewareType:
    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        made = call(request.method, request.url.path, request.url.query.get("watch") == "true")
        try:
            response = await handler(request)
        except (aiohttp.ClientError, TimeoutError):
            noticed(made, 0)
            raise
        noticed(made, response.status)
        return response

    return middleware

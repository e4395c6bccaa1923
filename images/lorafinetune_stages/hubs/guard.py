"""Where a hub may send us to: not into the network that the stage runs in, and without its token.

A stage runs inside a cluster, next to servers that trust their network, such as the metadata server
of a cloud. A server that is itself of such a kind may redirect to others of its kind.
"""

import ipaddress
import socket
from typing import Final

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.origin import Origin

PUBLIC: Final = "public"
CREDENTIALS: Final = ("Authorization", "Cookie")


class RedirectGuard:
    """Looks at every request before it is sent, the redirected ones too. A token goes to the hub alone."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        try:
            self.endpoint = httpx.URL(origin.endpoint)
        except httpx.InvalidURL as problem:
            what = f"{origin.failed}: the endpoint {origin.endpoint!r} is no URL"
            raise origin.error(Reason.CONFIG_INVALID, what) from problem

    def __call__(self, request: httpx.Request) -> None:
        """Raises StageError(ConfigInvalid) for a request that may not be sent."""
        url = request.url
        if not self._is_hub(url):
            for name in CREDENTIALS:
                request.headers.pop(name, None)
        if url.scheme not in ("http", "https"):
            raise self._refused(f"{url.scheme}://, which is not followed")
        if url.host == self.endpoint.host:
            return
        allowed = {PUBLIC, *address_kinds(self.endpoint.host)}
        if inner := address_kinds(url.host) - allowed:
            raise self._refused(f"{url.host}, a {min(inner)} address, which is not followed")

    def _is_hub(self, url: httpx.URL) -> bool:
        """Whether it is the hub itself, or over TLS a host below its name: ModelScope takes files at one."""
        if (url.scheme, url.netloc) == (self.endpoint.scheme, self.endpoint.netloc):
            return True
        domain = self.endpoint.host.removeprefix("www.")
        return url.scheme == "https" and url.port is None and url.host.endswith(f".{domain}")

    def _refused(self, where: str) -> StageError:
        return self._origin.error(
            Reason.CONFIG_INVALID,
            f"{self._origin.failed}: {self._origin.host} redirects to {where}",
            "Set the connection's endpoint to the server that holds the files.",
        )


def address_kinds(host: str) -> set[str]:
    """The kinds of the addresses of a host: public, private, loopback, link-local. None where the name
    is unknown here: then the connection fails, or a proxy makes it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {_kind(str(address[0])) for *_, address in found}


def _kind(text: str) -> str:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return PUBLIC if address.is_global else "private"

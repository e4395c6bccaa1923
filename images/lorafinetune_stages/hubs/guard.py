"""Where a hub may send us to: not into the network that the stage runs in, and without its token.

A stage runs inside a cluster, next to servers that trust their network, such as the metadata server
of a cloud. A server that is itself of such a kind may redirect to others of its kind. From `https://` sources
only the hosts are taken that the installation lists.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.https import HttpsSources, host_of, not_allowed
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.origin import Origin

PUBLIC: Final = "public"
CREDENTIALS: Final = ("Authorization", "Cookie")
TRANSLATED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
"""Behind them a translator, or the machine itself, has the whole of IPv4."""
LOOPBACKS: Final = frozenset(map(ipaddress.IPv6Address, ("::", "::1")))
INNER: Final = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "192.0.0.0/24")))
"""What a translator of the network's own has behind it, and the metadata server of Oracle's first cloud: not
every Python knows that they are private."""
WIRE_SERVER: Final = ipaddress.IPv4Address("168.63.129.16")
"""Of Azure: by its number it is public, and it gives each machine its own configuration."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RedirectGuard:
    """Looks at every request before it is sent, the redirected ones too. A token goes to the hub alone."""

    hint = "Set the connection's endpoint to the server that holds the files."

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        try:
            self.endpoint = httpx.URL(origin.endpoint)
        except httpx.InvalidURL as problem:
            what = f"{origin.failed}: the endpoint {origin.endpoint!r} is no URL"
            raise origin.error(Reason.CONFIG_INVALID, what) from problem
        self._kinds: frozenset[str] = frozenset()

    def __call__(self, request: httpx.Request) -> None:
        """Raises StageError(ConfigInvalid) for a request that may not be sent."""
        url = request.url
        if not self._is_hub(url):
            for name in CREDENTIALS:
                request.headers.pop(name, None)
        if url.scheme not in ("http", "https"):
            raise self._refused(f"{url.scheme}://, which is not followed")
        self.check(url.host, addresses(url.host))

    def check(self, host: str, found: Iterable[str]) -> None:
        """Raises StageError(ConfigInvalid) for a host at one of these addresses that may not be reached. The
        kinds of the hub's own are those that it was at first: its name may mean another place later."""
        self._kinds = self._kinds or address_kinds(self.endpoint.host)
        if inner := {kind(address) for address in found} - {PUBLIC, *self._kinds}:
            raise self._refused(f"{host}, a {min(inner)} address, which is not followed")

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
            self.hint,
        )


class HttpsGuard(RedirectGuard):
    """Lets nothing but https through, and to the allowed hosts alone."""

    hint = "Name an address at which the file itself is."

    def __init__(self, origin: Origin, allowed: HttpsSources) -> None:
        super().__init__(origin)
        self._allowed = allowed

    def __call__(self, request: httpx.Request) -> None:
        """Raises StageError(ConfigInvalid) for a request that may not be sent."""
        url = request.url
        if url.scheme != "https":
            raise self._refused(f"{url.scheme}://, which is not followed")
        host = url.netloc.decode()
        if not self._allowed.allows(host):
            what, hint = not_allowed(host)
            led = "" if host == host_of(self._origin.source) else f"{self._origin.host} redirects to "
            raise self._origin.error(Reason.CONFIG_INVALID, f"{self._origin.failed}: {led}{what}", hint)
        if self._allowed.unrestricted:
            super().__call__(request)


def address_kinds(host: str) -> frozenset[str]:
    """The kinds of the addresses of a host: public, private, loopback, link-local. None where the name
    is unknown here: then the connection fails, or a proxy makes it."""
    return frozenset(map(kind, addresses(host)))


def addresses(host: str) -> tuple[str, ...]:
    """The addresses of a host, in the order in which they should be tried; none where it is unknown."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def reached(text: str) -> Address:
    """The address that packets to this one arrive at in the end."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address not in LOOPBACKS and any(address in network for network in TRANSLATED):
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


def kind(text: str) -> str:
    """The kind of an address: public, private, loopback or link-local."""
    address = reached(text)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local or address == WIRE_SERVER:
        return "link-local"
    return PUBLIC if _is_public(address) else "private"


def _is_public(address: Address) -> bool:
    """Whether it is one machine, and outside of every network of its own."""
    if address.is_multicast or any(address in network for network in INNER):
        return False
    return address.is_global and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)

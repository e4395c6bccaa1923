"""Connections to the very address that was checked: a name may mean another one a moment later.

Whoever answers for a name could first give a public address, to pass the check, and then one in the network
that the stage runs in.
"""

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.request import getproxies

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.https import HttpsSources
from lorafinetune_stages.addresses import PUBLIC, addresses, kind, reached
from lorafinetune_stages.hubs.origin import Origin

ALONE = httpx.Limits(max_keepalive_connections=0)
"""Two hosts at one address don't share a connection: it is proven for one of them."""


Check = Callable[[str, Sequence[str]], None]
"""Is told a host and its addresses. Raises StageError(ConfigInvalid) where one of them may not be reached."""


class PinnedTransport(httpx.BaseTransport):
    """Connects to addresses that were checked; over TLS the name must prove itself there."""

    def __init__(self, check: Check, tls: ssl.SSLContext) -> None:
        self._check = check
        self._transport = httpx.HTTPTransport(verify=tls, limits=ALONE)

    def close(self) -> None:
        self._transport.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises StageError(ConfigInvalid) where an address of the host may not be reached."""
        *others, last = self._checked(request.url.host)
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return self._transport.handle_request(_at(address, request))
        return self._transport.handle_request(_at(last, request))

    def _checked(self, host: str) -> tuple[str, ...]:
        found = addresses(host)
        if not found:
            raise httpx.ConnectError("its name is unknown here")
        self._check(host, found)
        return found


def pinned(check: Check, tls: ssl.SSLContext) -> PinnedTransport | None:
    """Absent behind a proxy: it is the one that looks names up, and that connects."""
    known = getproxies()
    return None if any(map(known.get, ("http", "https", "all"))) else PinnedTransport(check, tls)


def within(origin: Origin, allowed: HttpsSources) -> Check:
    """Lets through public addresses, and those of the listed ranges."""
    ranges = [ipaddress.ip_network(cidr) for cidr in allowed.private_cidrs]

    def check(host: str, found: Sequence[str]) -> None:
        for address in found:
            if kind(address) != PUBLIC and not any(reached(address) in known for known in ranges):
                raise origin.error(
                    Reason.CONFIG_INVALID,
                    f"{origin.failed}: {host} is at {address}, a {kind(address)} address",
                    "If it is meant to be reached, have its range added to `sources.privateCidrs` in the "
                    "values of the operator's chart.",
                )

    return check


def _at(address: str, request: httpx.Request) -> httpx.Request:
    """The same request, which is sent to that address, and asks there for the host that it names."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )

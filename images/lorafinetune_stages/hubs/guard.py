"""Where a hub may redirect us: not into the network that the stage runs in, and elsewhere only without the
token.

A stage runs inside a cluster, next to servers that trust their network, such as the metadata server of a
cloud. No hub may be such a server or lead to one. A server that is in another kind of inner network, with all
of its addresses, may redirect to servers of the same kind. For `https://` sources, only the hosts that the
installation lists are allowed.
"""

from collections.abc import Iterable
from typing import Final

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.https import NOT_ALLOWED, HttpsSources, host_of, how_to_allow
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.addresses import LINK_LOCAL, PUBLIC, address_kinds, addresses, kind
from lorafinetune_stages.hubs.origin import Origin

CREDENTIALS: Final = ("Authorization", "Cookie")


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
        self._kinds = self._kinds or _alike(address_kinds(self.endpoint.host)) - {LINK_LOCAL}
        if inner := {kind(address) for address in found} - {PUBLIC, *self._kinds}:
            what = f"a {min(inner)} address, which is not followed"
            if host == self.endpoint.host:
                raise self._error(f"{host} is {what}")
            raise self._refused(f"{host}, {what}")

    def _is_hub(self, url: httpx.URL) -> bool:
        """Whether it is the hub itself, or over TLS a host below its name: ModelScope takes files at one."""
        if (url.scheme, url.netloc) == (self.endpoint.scheme, self.endpoint.netloc):
            return True
        domain = self.endpoint.host.removeprefix("www.")
        return url.scheme == "https" and url.port is None and url.host.endswith(f".{domain}")

    def _refused(self, where: str) -> StageError:
        return self._error(f"{self._origin.host} redirects to {where}")

    def _error(self, what: str) -> StageError:
        return self._origin.error(Reason.CONFIG_INVALID, f"{self._origin.failed}: {what}", self.hint)


def _alike(kinds: frozenset[str]) -> frozenset[str]:
    """The kind that all of a host's addresses are of. A public host says itself what its addresses are, and
    another one among them is no word of the network that it is said to be in."""
    return kinds if len(kinds) == 1 else frozenset({PUBLIC})


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
            own = host == host_of(self._origin.source)
            what = host if own else f"{self._origin.host} redirects to {host}, which"
            what = f"{self._origin.failed}: {what} {NOT_ALLOWED}"
            raise self._origin.error(Reason.CONFIG_INVALID, what, how_to_allow(host))
        if self._allowed.unrestricted:
            super().__call__(request)

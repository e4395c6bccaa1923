"""Which network an address is in, in whatever form it is written, and whatever name it has.

A stage runs inside a cluster, next to servers that trust their network. At link-local addresses a cloud tells
each machine its credentials, so nothing that a stage reads or writes may be there.
"""

import ipaddress
import socket
from typing import Final

PUBLIC: Final = "public"
LINK_LOCAL: Final = "link-local"
TRANSLATED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
"""Behind them a translator, or the machine itself, has the whole of IPv4."""
LOOPBACKS: Final = frozenset(map(ipaddress.IPv6Address, ("::", "::1")))
INNER: Final = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "192.0.0.0/24")))
"""What a translator of the network's own has behind it, and protocols of the network: not every Python knows
that they are private."""
METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        (
            "168.63.129.16",  # Azure
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
            "fd00:c1::a9fe:a9fe",
            "fd00:ec2::254",  # AWS
            "fd00:ec2::23",  # its agent that tells a pod of EKS
            "fd20:ce::254",  # Google
            "fd00:42::42",  # Scaleway
        ),
    )
)
"""Where clouds tell a machine what others tell it at a link-local address. They count as such."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
    if address.is_link_local or address in METADATA:
        return LINK_LOCAL
    return PUBLIC if _is_public(address) else "private"


def _is_public(address: Address) -> bool:
    """Whether it is one machine, and outside of every network of its own."""
    if address.is_multicast or any(address in network for network in INNER):
        return False
    return address.is_global and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)

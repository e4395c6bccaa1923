"""Where a token goes: to the hub, and over TLS to hosts below its name. And what kind an address is of."""

import httpx
import pytest

from lorafinetune.api.sources import Connection
from lorafinetune_stages.addresses import kind
from lorafinetune_stages.hubs.guard import RedirectGuard
from lorafinetune_stages.hubs.origin import Origin

HOSTS = {
    "the hub": ("https://modelscope.invalid", "https://modelscope.invalid/api", True),
    "a host below it": ("https://modelscope.invalid", "https://lfs.modelscope.invalid/x", True),
    "a host beside it": ("https://www.modelscope.invalid", "https://lfs.modelscope.invalid/x", True),
    "a host below it without TLS": ("https://modelscope.invalid", "http://lfs.modelscope.invalid/x", False),
    "the hub without TLS": ("https://modelscope.invalid", "http://modelscope.invalid/x", False),
    "another port of the hub": ("https://modelscope.invalid", "https://modelscope.invalid:444/x", False),
    "a port of a host below it": ("https://modelscope.invalid", "https://a.modelscope.invalid:444/", False),
    "a name that only ends so": ("https://modelscope.invalid", "https://evilmodelscope.invalid/x", False),
    "a name that only begins so": (
        "https://modelscope.invalid",
        "https://modelscope.invalid.evil.invalid/",
        False,
    ),
    "another host": ("https://modelscope.invalid", "https://evil.invalid/x", False),
}


@pytest.mark.parametrize("sentence", HOSTS)
def test_the_token_reaches(sentence: str) -> None:
    endpoint, url, reached = HOSTS[sentence]
    origin = Origin("f", "models", "hf://a/b", connection=Connection(name="hub", endpoint=endpoint))
    request = httpx.Request("PUT", url, headers={"Authorization": "Bearer t", "Cookie": "m_session_id=t"})
    RedirectGuard(origin)(request)
    assert {name in request.headers for name in ("Authorization", "Cookie")} == {reached}


KINDS = {
    "8.8.8.8": "public",
    "2606:4700::1111": "public",
    "10.1.2.3": "private",
    "100.64.0.1": "private",
    "0.0.0.0": "private",  # noqa: S104 - not listened to
    "fd00::1": "private",
    "127.0.0.1": "loopback",
    "::1": "loopback",
    "169.254.169.254": "link-local",
    "fe80::1%eth0": "link-local",
    "::ffff:169.254.169.254": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b::808:808": "public",
    "2002:7f00:1::": "loopback",
    "::": "private",
    "::7f00:1": "loopback",
    "::ffff:0:a9fe:a9fe": "link-local",
    "64:ff9b:1::a9fe:a9fe": "private",
    "fec0::1": "private",
    "fd00:ec2::254": "link-local",
    "fd00:ec2::23": "link-local",
    "fd00:c1::a9fe:a9fe": "link-local",
    "fd20:ce::254": "link-local",
    "fd00:42::42": "link-local",
    "ff0e::1": "private",
    "224.0.0.1": "private",
    "192.0.0.192": "link-local",
    "100.100.100.200": "link-local",
    "168.63.129.16": "link-local",
}


@pytest.mark.parametrize("address", KINDS)
def test_an_address_is_of_the_kind_of_what_it_leads_to(address: str) -> None:
    assert kind(address) == KINDS[address]

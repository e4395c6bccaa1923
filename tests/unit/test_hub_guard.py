"""Where a token goes: to the hub, and over TLS to hosts below its name."""

import httpx
import pytest

from lorafinetune.api.spec import Connection
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

"""Every page of the site in a real browser, from a web server."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest

from browser.devtools import DESK, PHONE, Tab
from documents import DOCUMENTS
from unit.test_site import BESIDES, built

IMAGES: Final = """Promise.all([...document.images].map((each) => (each.loading = "eager", each.decode())
    .then(() => "", () => each.src))).then((all) => all.filter(Boolean))"""
LINES_OF_NAMES: Final = """Math.max(...[...document.querySelectorAll("td:first-child code")]
    .map((each) => each.getClientRects().length))"""


class Files(SimpleHTTPRequestHandler):
    """Serves in silence."""

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site."""
    files = partial(Files, directory=str(built(tmp_path_factory.mktemp("site"))))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


SURROUNDINGS: Final = {"on a phone at night": (PHONE, "dark"), "at a desk": (DESK, "light")}


@pytest.mark.parametrize("sentence", SURROUNDINGS)
@pytest.mark.parametrize("document", [*DOCUMENTS, *BESIDES])
def test_a_page_of_the_site_can_be_read(
    opened: Callable[..., Tab], site: str, document: str, sentence: str
) -> None:
    width, scheme = SURROUNDINGS[sentence]
    tab = opened(site + document.replace("README", "index").replace(".md", ".html"), width, scheme)
    assert tab.frowns() == []
    assert tab.evaluate(IMAGES) == []
    assert tab.complaints() == []
    assert [url for url in tab.requests() if not url.startswith((site, "data:", f"blob:{site}"))] == []


def test_a_field_of_the_resource_can_be_read_on_a_phone(opened: Callable[..., Tab], site: str) -> None:
    tab = opened(f"{site}docs/reference/api.html", PHONE, "light")
    assert tab.evaluate(LINES_OF_NAMES) <= 3


@pytest.mark.parametrize(("scheme", "expected"), [("light", "default"), ("dark", "slate")])
def test_the_site_is_as_dark_as_its_reader_likes(
    opened: Callable[..., Tab], site: str, scheme: str, expected: str
) -> None:
    tab = opened(f"{site}index.html", DESK, scheme)
    assert tab.evaluate("document.body.dataset.mdColorScheme") == expected
    assert tab.complaints() == []

"""One browser for all tests here, and its tabs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser.absence import nobody_looks
from browser.devtools import DevTools, Tab, browser, program


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTools]:
    found = program()
    if found is None:
        nobody_looks()
    with browser(found, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def opened(tools: DevTools) -> Iterator[Callable[..., Tab]]:
    tabs = []

    def open_tab(page: Path | str, width: int, scheme: str) -> Tab:
        tabs.append(Tab(tools, page, width, scheme))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.close()

"""The site of the documentation: what `make site` builds is whole, and needs nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import yaml

from documents import DOCUMENTS, ROOT

BESIDES: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "samples/data/emollm/README.md")
LOADED: Final = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""What a browser fetches by itself, unlike a link that somebody follows."""


@dataclass
class Page(HTMLParser):
    """addresses: the element, its attribute, and what that names. anchors: where a link may lead to."""

    addresses: list[tuple[str, str, str]] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.addresses.append((tag, name, value))
            if name in ("id", "name") and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("site"))


def built(made: Path) -> Path:
    """What `make site` builds: in strict mode, so that a link to no page ends it."""
    make, uv = str(shutil.which("make")), Path(sys.executable).with_name("uv")
    subprocess.run([make, "-s", "site", f"OUT={made}", f"UV={uv}"], cwd=ROOT, check=True)
    return made / ".site" / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path.resolve(): Page() for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in found.items():
        page.feed(path.read_text())
    return found


def named(navigation: Any) -> Iterator[str]:
    """The files that the navigation leads to."""
    for entry in navigation:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else named(target)


def test_the_navigation_leads_to_every_page_once() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(named(navigation)) == sorted([*DOCUMENTS, *BESIDES])


def test_every_page_is_built(site: Path) -> None:
    written = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    expected = {page.replace("README", "index") for page in (*DOCUMENTS, *BESIDES)}
    assert written - {"404.md"} == expected


def test_every_link_leads_to_a_file_and_a_place_in_it(pages: dict[Path, Page]) -> None:
    """Strict mode looks at pages alone, not at samples, pictures and other files."""
    assert [
        (path.name, address)
        for path, page in pages.items()
        for _, _, address in page.addresses
        if not urlsplit(address).scheme and not leads_somewhere(path, address, pages)
    ] == []


def leads_somewhere(path: Path, address: str, pages: dict[Path, Page]) -> bool:
    place, anchor = urldefrag(address)
    target = (path.parent / unquote(place)).resolve() if place else path
    return target.is_file() and (
        not anchor or target not in pages or unquote(anchor) in pages[target].anchors
    )


def test_every_link_to_a_heading_is_right_in_a_forge_too() -> None:
    """A forge makes anchors of its own: GitHub's keep every letter, and a hyphen for every blank."""
    assert [
        (document, address)
        for document in (*DOCUMENTS, *BESIDES)
        for address in re.findall(r"\]\(([^)\s:]*#[^)\s]+)\)", (ROOT / document).read_text())
        if urldefrag(address).fragment not in slugs((ROOT / document).parent, document, address)
    ] == []


def slugs(folder: Path, document: str, address: str) -> set[str]:
    page = folder / place if (place := urldefrag(address).url) else ROOT / document
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert [
        (path.name, address)
        for path, page in pages.items()
        for tag, name, address in page.addresses
        if (tag, name) in LOADED and urlsplit(address).netloc
    ] == []


def test_no_style_loads_anything_from_elsewhere(site: Path) -> None:
    assert [sheet.name for sheet in site.rglob("*.css") if "url(http" in sheet.read_text()] == []

"""The pictures of the documentation: how a terminal becomes one, and what may be in those that are there."""

import sys
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import pytest

from pictures.animation import LAST_SECONDS, MOST, SECONDS, animation
from pictures.recording import COLUMNS, record, screens

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "docs" / "pictures"
MOST_BYTES: Final = 200_000
SVG: Final = "{http://www.w3.org/2000/svg}"
ELSEWHERE: Final = ("url(h", "href=", "@import", "<script", "foreignObject")
OF_A_MACHINE: Final = ("/tmp/", "/root/", "/home/", f"{ROOT}/")  # noqa: S108 - what no picture may show

PLAYED: dict[str, tuple[list[str], list[str]]] = {
    "a line after another": (["one\r\n", "two\r\n"], ["$\none", "$\none\ntwo"]),
    "what is drawn in place of what stood there": (
        ["one\r\ntwo", "\r\x1b[2K\x1b[1A\x1b[2Kthree"],
        ["$\none\ntwo", "$\nthree"],
    ),
    "colours, which stay": (["\x1b[32mgood\x1b[0m"], ["$\n\x1b[32mgood\x1b[0m"]),
    "a colour whose name comes in two pieces": (["a\x1b", "[3", "2mb"], ["$\na", "$\na\x1b[32mb"]),
    "what changes nothing": (["one", "\x1b[?25l", "\r"], ["$\none"]),
}


@pytest.mark.parametrize("sentence", PLAYED)
def test_a_terminal_shows(sentence: str) -> None:
    pieces, shown = PLAYED[sentence]
    assert list(screens(pieces, "$")) == shown


def test_a_program_is_recorded_as_on_a_terminal(tmp_path: Path) -> None:
    asks = "import os; print('é', os.isatty(1), os.get_terminal_size().columns)"
    assert "".join(record([sys.executable, "-c", asks], tmp_path, {})) == f"é True {COLUMNS}\r\n"


def test_a_program_that_fails_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 7"):
        list(record([sys.executable, "-c", "raise SystemExit(7)"], tmp_path, {}))


def test_the_screens_are_shown_one_after_the_other_and_the_last_for_longest() -> None:
    drawn = animation([f"\x1b[32m{number}\x1b[0m & <b>" for number in range(100)], "a title")
    groups = ElementTree.fromstring(drawn).findall(f".//{SVG}g[@class='screen']")  # noqa: S314 - our own
    texts = ["".join(group.itertext()).strip().split("\xa0")[0] for group in groups]
    assert (len(texts), texts[0], texts[-1]) == (MOST, "0", "99")
    assert f"k0 {SECONDS * (MOST - 1) + LAST_SECONDS:.1f}s" in drawn
    assert f"#s{MOST - 1} {{ visibility: visible }}" in drawn


@pytest.mark.parametrize("path", sorted(PICTURES.iterdir()), ids=lambda path: path.name)
def test_a_picture_is_small_and_of_itself(path: Path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    if path.suffix == ".svg":
        text = path.read_text()
        ElementTree.fromstring(text)  # noqa: S314 - our own
        assert [each for each in (*ELSEWHERE, *OF_A_MACHINE) if each in text] == []

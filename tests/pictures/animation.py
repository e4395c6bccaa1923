"""Screens of a terminal as one SVG that plays them: with no script, no font and nothing else from elsewhere.

A window has its own dark ground, so it can be read on a dark page and on a light one. Whoever wants nothing
to move, or has what plays no animation, sees the last screen.
"""

import io
import re
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from pictures.recording import COLUMNS

MOST: Final = 24
"""Screens that are shown: as many as make a small file."""
SECONDS: Final = 0.8
"""For each screen, whatever time it took."""
LAST_SECONDS: Final = 8.0
FONTS: Final = "ui-monospace, 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
FORMAT: Final = "\x00".join(("{width}", "{height}", "{chrome}", "{styles}", "{backgrounds}", "{matrix}"))
CLIP: Final = re.compile(r' clip-path="[^"]*"')


def animation(screens: Sequence[str], title: str) -> str:
    """The SVG. screens: with their colours as a terminal is told of them."""
    shown = _some(screens)
    rows = max(len(_lines(screen)) for screen in shown)
    drawn = [_draw(screen, rows, title, f"s{number}") for number, screen in enumerate(shown)]
    width, height, chrome, *_ = drawn[-1]
    total = SECONDS * (len(shown) - 1) + LAST_SECONDS
    rules = [_rules(number, len(shown), total) for number in range(len(shown))]
    styles = "\n".join(style for _, _, _, style, _, _ in drawn)
    groups = "\n".join(
        f'<g class="screen" id="s{number}">{ground}{matrix}</g>'
        for number, (*_, ground, matrix) in enumerate(drawn)
    )
    return f"""<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>{title}</title>
<style>
text {{ font-family: {FONTS}; font-size: 20px; white-space: pre }}
.screen {{ visibility: hidden }}
#s{len(shown) - 1} {{ visibility: visible }}
@media (prefers-reduced-motion: no-preference) {{
{chr(10).join(rules)}
}}
{styles}
</style>
{chrome}
<g transform="translate(9, 41)">
{groups}
</g>
</svg>
"""


def _some(screens: Sequence[str]) -> list[str]:
    """Evenly spread over those that say something else, with the first and the last."""
    told = list({Text.from_ansi(screen).plain: screen for screen in screens}.values())
    wanted = min(MOST, len(told))
    return [told[round(place * (len(told) - 1) / max(1, wanted - 1))] for place in range(wanted)]


def _lines(screen: str) -> list[Text]:
    """Wrapped as a terminal does it, in the middle of a word."""
    told = (Text.from_ansi(line) for line in screen.splitlines())
    return [part for line in told for part in line.divide(range(COLUMNS, len(line), COLUMNS))]


def _draw(screen: str, rows: int, title: str, name: str) -> list[str]:
    """Width, height, window, styles, grounds and letters. rows: lines, of which the last may be empty."""
    console = Console(width=COLUMNS, file=io.StringIO(), record=True, force_terminal=True)
    lines = _lines(screen)
    for line in [*lines, *[Text()] * (rows - len(lines))]:
        console.print(line, no_wrap=True, overflow="crop")
    exported = console.export_svg(title=title, code_format=FORMAT, unique_id=name)
    return CLIP.sub("", exported).split("\x00")


def _rules(number: int, count: int, total: float) -> str:
    """When a screen is seen, of each round."""
    begins, ends = (100 * SECONDS * place / total for place in (number, number + 1))
    steps = [
        *(["0% { visibility: hidden }"] if number else []),
        f"{begins:.2f}% {{ visibility: visible }}",
        *([f"{ends:.2f}% {{ visibility: hidden }}"] if number < count - 1 else []),
    ]
    played = f"animation: k{number} {total:.1f}s step-end infinite"
    return f"@keyframes k{number} {{ {' '.join(steps)} }} #s{number} {{ {played} }}"

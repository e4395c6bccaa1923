"""Takes the pictures: of a run of the sample on a terminal, in a few minutes, and of a report that was made
up, so that it has all that one can have: `make pictures`.

usage: python -m pictures DIRECTORY

A path of the machine on which they were taken is in none of them.
"""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from browser.devtools import Tab, browser, program
from browser.test_report_page import usual
from lorafinetune.report.language import Language
from lorafinetune.report.loading import Origin
from lorafinetune.report.page import render
from pictures.animation import animation
from pictures.recording import record, screens

REPOSITORY: Final = Path(__file__).parents[2]
SAMPLE: Final = "samples/smollm2-emollm.yaml"
RUN: Final = ("lorafinetune", "run", SAMPLE)
FOLDER: Final = "~/finetunes"
"""Where the run is said to be."""
WIDTH: Final = 860
MARGIN: Final = 12
QUALITY: Final = 80
PARTS: Final = {
    "verdict": (None, "Answers"),
    "answers": ("Answers", "prompt 2"),
    "curves": ("Curves", "Data"),
}
"""Pictures of the report, each from one heading to before another; None: from the top."""
HEADINGS: Final = """Object.fromEntries([...document.querySelectorAll("h2, h3")].map(
    (each) => [each.textContent.trim(), each.getBoundingClientRect().top]))"""


def main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        sys.stderr.write(f"{__doc__}\n")
        return 64
    target = Path(argv[0])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "finetunes")
        shutil.copytree(REPOSITORY / "samples", folder / "samples")
        _prepare(folder)
        (target / "run.svg").write_text(_play(folder))
        page = folder / "report.html"
        page.write_text(render(usual(), Language.EN, Origin()))
        _photograph(page, target)
    return 0


def _prepare(folder: Path) -> None:
    """What `make demo` does before the run."""
    store = folder / "lorafinetune-store" / "samples"
    program = (sys.executable, "samples/smollm2.py", store / "SmolLM2-135M-Instruct")
    subprocess.run(program, cwd=folder, check=True)
    shutil.copytree(folder / "samples" / "data" / "emollm", store / "emollm")


def _play(folder: Path) -> str:
    surroundings = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    command = (str(Path(sys.executable).with_name(RUN[0])), *RUN[1:])
    pieces = (piece.replace(str(folder), FOLDER) for piece in record(command, folder, surroundings))
    return animation(list(screens(pieces, f"$ {' '.join(RUN)}")), " ".join(RUN))


def _photograph(page: Path, target: Path) -> None:
    """Sections of a report, as long as they are, but no higher than a screen."""
    chromium = program()
    if chromium is None:
        raise RuntimeError("there is no Chromium here, and only root installs one")
    with tempfile.TemporaryDirectory() as profile, browser(chromium, Path(profile)) as tools:
        tab = Tab(tools, page, WIDTH, "light")
        tops = tab.evaluate(HEADINGS)
        for name, (first, after) in PARTS.items():
            top = tops[first] - MARGIN if first else 0
            part = {"x": 0, "y": top, "width": WIDTH, "height": tops[after] - MARGIN - top}
            (target / f"report-{name}.webp").write_bytes(_picture(tab, part))


def _picture(tab: Tab, part: dict[str, float]) -> bytes:
    """part: of the page, in CSS pixels."""
    clip = {**part, "scale": 1}
    taken = tab.call(
        "Page.captureScreenshot", format="webp", quality=QUALITY, clip=clip, captureBeyondViewport=True
    )
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

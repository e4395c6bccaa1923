"""The commands that the documentation tells people to type, for tests that type them."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = ("README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md")))
SAMPLE: Final = "samples/smollm2-emollm.yaml"
LONG_WATCH: Final = ("kubectl get lft --watch", "timeout 5 kubectl get lft --watch || true")
REGISTRY: Final = "registry.example.com/ml"


def places() -> Iterator[tuple[str, str, int]]:
    """Document, heading and position below it of every block of commands."""
    for document in DOCUMENTS:
        for heading, blocks in _blocks(document).items():
            yield from ((document, heading, position) for position in range(len(blocks)))


def said(document: str, heading: str, position: int = 0) -> str:
    """The commands of one block. Raises KeyError and IndexError where there is none."""
    return _blocks(document)[heading][position]


def _blocks(document: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in re.split(r"^#+ ", (ROOT / document).read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        found[heading] = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return found


def fenced() -> Iterator[tuple[str, str, str]]:
    """Document, language and text of every block of code. Without a language it is what a program shows."""
    for document in DOCUMENTS:
        for language, text in re.findall(
            r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.M | re.S
        ):
            yield document, language, text


def prose() -> Iterator[str]:
    """What users read beside the blocks of code: neither the design nor what is generated."""
    for document in DOCUMENTS:
        if not document.startswith(("docs/design/", "docs/reference/")):
            yield re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)


def replaced(text: str, changed: Mapping[str, str]) -> str:
    """The text with others in place of some. What is replaced must be there, or it would go on unnoticed."""
    for old, new in changed.items():
        assert old in text, f"{old!r} is not in {text!r}"
        text = text.replace(old, new)
    return text


class Typist:
    """Somebody who types commands in a folder. What a command exports, the next one has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        self.environment = {name: value for name, value in os.environ.items() if name not in make}

    def type(self, commands: str, within: float = 600, changed: Mapping[str, str] | None = None) -> str:
        """What the commands print. changed: text that is typed in place of another."""
        commands = replaced(commands, changed or {})
        with NamedTemporaryFile("r") as kept:
            done = subprocess.run(
                ["/bin/bash", "-euo", "pipefail", "-c", f"{commands}\nenv -0 > '{kept.name}'"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=within,
                check=False,
            )
            assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            self.environment = dict(line.split("=", 1) for line in kept.read().split("\0") if line)
        return done.stdout


def checkout(folder: Path, changed: Mapping[str, str]) -> Path:
    """The repository as if it had been cloned into the folder, with another sample. changed: text of the
    sample that is replaced."""
    for path in ROOT.iterdir():
        if path.name not in ("samples", "lorafinetune-store", "lorafinetune-runs"):
            (folder / path.name).symlink_to(path)
    (folder / "samples").mkdir()
    for path in (ROOT / "samples").iterdir():
        (folder / "samples" / path.name).symlink_to(path)
    (folder / SAMPLE).unlink()
    (folder / SAMPLE).write_text(replaced((ROOT / SAMPLE).read_text(), changed))
    return folder

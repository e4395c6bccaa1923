"""What a program shows on a terminal, as a person sees it who starts it there."""

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

COLUMNS: Final = 100
ROWS: Final = 30
UP: Final = "\x1b[1A"
ERASE: Final = "\x1b[2K"
CONTROLS: Final = re.compile(r"(\x1b\[1A|\x1b\[2K|\x1b\[\?25[lh]|\r|\n)")
"""All that rich moves a terminal by, where it draws in place."""
BEGUN: Final = re.compile(r"\x1b(\[[0-9;?]*)?$")
"""A sequence whose end is yet to come."""


def record(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """What a program writes to a terminal of its own, piece by piece. Raises RuntimeError where it fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while data := _next(ours):
        yield decoder.decode(data)
    os.close(ours)
    if code := process.wait():
        raise RuntimeError(f"{command[0]} ended with {code}")


def _next(terminal: int) -> bytes:
    """Nothing where the program has ended, which Linux says by an error."""
    try:
        return os.read(terminal, 2**16)
    except OSError:
        return b""


def screens(pieces: Iterable[str], first: str) -> Iterator[str]:
    """What stands there after each piece that changes it, with its colours. first: what stood there
    before."""
    lines, shown = [*first.splitlines(), ""], ""
    for piece in _whole(pieces):
        for token in CONTROLS.split(piece):
            if token == UP:
                lines.pop()
            elif token == "\n":
                lines.append("")
            elif token == ERASE:
                lines[-1] = ""
            elif not CONTROLS.fullmatch(token):
                lines[-1] += token
        if (now := "\n".join(lines).rstrip()) != shown:
            shown = now
            yield now


def _whole(pieces: Iterable[str]) -> Iterator[str]:
    """The same text, with no sequence in two pieces."""
    begun = ""
    for piece in pieces:
        text = begun + piece
        cut = BEGUN.search(text)
        begun = text[cut.start() :] if cut else ""
        yield text[: cut.start()] if cut else text

"""Secrets that sing: each is looked for where none may stand, in every form that one takes on its way."""

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final
from urllib.parse import quote

OFTEN: Final = 0.1
"""Seconds between two looks at the processes: a stage that finds its output lives for one or two."""


def canary() -> str:
    """A secret that stands nowhere else. Its signs are written in another way in a URL, and in base64."""
    return f"canary/{secrets.token_hex(16)}"


def leaks(told: Mapping[str, bytes], *canaries: str) -> list[str]:
    """Where one of them can be read. told: what is said, by the place where it is said."""
    looked_for = [form for each in canaries for form in forms(each.encode())]
    return [where for where, text in told.items() if any(form in text for form in looked_for)]


def forms(secret: bytes) -> set[bytes]:
    """As it is, as a URL has it, in hexadecimal digits, and in base64, wherever in a text it begins."""
    plain = {secret, quote(secret, safe="").encode(), secret.hex().encode()}
    return plain | {_in_base64(secret, before) for before in range(3)}


def _in_base64(secret: bytes, before: int) -> bytes:
    """What base64 makes of it after so many other bytes, but for what its neighbours change."""
    end = (before + len(secret)) * 4 // 3
    return b64encode(bytes(before) + secret)[-(-before * 4 // 3) : end]


@contextmanager
def overheard() -> Iterator[set[bytes]]:
    """The arguments of every process that is on this machine in the block, as anybody there can read them."""
    heard: set[bytes] = set()
    over = Event()
    listener = Thread(target=_listen, args=(heard, over))
    listener.start()
    try:
        yield heard
    finally:
        over.set()
        listener.join()


def _listen(heard: set[bytes], over: Event) -> None:
    while not over.wait(OFTEN):
        heard.update(_arguments())


def _arguments() -> Iterator[bytes]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield entry.read_bytes()
        except OSError:
            continue

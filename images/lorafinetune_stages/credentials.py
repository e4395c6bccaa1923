"""The credentials that a stage was given stand in nothing that it says.

A library's exception may hold a header or a signed URL, and what a server names its files, or whatever else
it answers, may be the very token that it was sent. So all that the process prints is cleared, whoever prints
it.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, TextIO
from urllib.parse import quote

from lorafinetune.contract.arguments import CREDENTIAL_PREFIX

REDACTED: Final = "[redacted]"
SHORTEST: Final = 8
"""Characters of a credential; what is shorter could be any word."""
PUBLIC_HALF: Final = "_AWS_ACCESS_KEY_ID"
AMBIENT: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Those that libraries find by themselves, where a connection names no Secret."""
SERVICE_ACCOUNT: Final = r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"
"""A token of a ServiceAccount, known by its form: it is in a file, and renewed there."""


def cleared(text: str) -> str:
    """The text as everybody may read it."""
    return _pattern(frozenset(_credentials())).sub(REDACTED, text)


def _credentials() -> Iterator[str]:
    for name, value in os.environ.items():
        is_ours = name.startswith(CREDENTIAL_PREFIX) and not name.endswith(PUBLIC_HALF)
        if (is_ours or name in AMBIENT) and len(value.strip()) >= SHORTEST:
            yield value.strip()


@lru_cache(maxsize=1)
def _pattern(credentials: frozenset[str]) -> re.Pattern[str]:
    """What finds each of them, a longer one before another that it begins with."""
    longest_first = sorted(credentials, key=len, reverse=True)
    return re.compile("|".join([*("".join(map(_spelled, one)) for one in longest_first), SERVICE_ACCOUNT]))


def _spelled(character: str) -> str:
    """A character as it is, as a URL has it, and as Python and JSON have it, also one within the other."""
    if character.isascii() and character.isalnum():
        return character
    bare = json.dumps(character)[1:-1].lstrip("\\")
    escaped = rf"\\{{0,8}}(?:{re.escape(character)}|{re.escape(bare)})" if bare else r"\\{1,8}"
    return f"(?:{escaped}|(?i:{re.escape(quote(character, safe=''))}))"


class Cleared(io.TextIOWrapper):
    """A stream of the process, in the place of the one that it had."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream.buffer, stream.encoding, stream.errors, line_buffering=True)

    def write(self, text: str) -> int:
        super().write(cleared(text))
        return len(text)


def clear_streams() -> None:
    """From now on. To be called before anything remembers the streams, as handlers of logs do."""
    sys.stdout, sys.stderr = Cleared(sys.stdout), Cleared(sys.stderr)

"""The end of a stage's log, as it may stand where everybody sees it who sees the resource.

A stage that dies without a word (a library that crashes, an import that fails) has said why in its log
alone, which not everybody may read, and which goes with its pod. What looks like a credential is left out.
"""

import re
from collections.abc import Iterator
from typing import Final

from lorafinetune.api.safetext import safe
from lorafinetune.contract.loglines import plain

LONGEST: Final = 800
"""Bytes: an Event has room for them beside what else it says. The kubelet gives the last 2,048."""
REDACTED: Final = "[redacted]"

_NAME: Final = r"(?:secret\w{0,32}|token|passwd|password|credential|signature|(?:access|api|private)[-_]?key)"
_VALUE: Final = r"""(?:"[^"]*"?|'[^']*'?|[^\s"',;&]+)"""
_KNOWN: Final = (
    r"hf_\w{8,}",
    r"ms-[0-9a-f]{8}-[\w-]{8,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{12,}",
    r"eyJ[\w.-]{16,}",
)
"""Tokens of the hubs, keys of S3, and tokens of service accounts."""
_LOOKS: Final = (
    r"(?:local-)?[0-9a-f]{40}(?!\w)",
    r"[\w-]{80,}",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?!\w)",
    r"[a-z0-9/+]{40}(?![\w/+])",
)
"""Keys of W&B, old and new, tokens of ModelScope, and secret keys of S3. A commit, a uid or a path may look
the same: they count as secrets only after the name of one."""
_BEFORE: Final = rf"(?:{_NAME}|key|login)s?\W{{1,4}}(?:is\s+)?"
_SECRETS: Final = (  # each takes time in proportion to the line, whatever its author wrote
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w+/.~=-]{6,}"), rf"\1 {REDACTED}"),
    (re.compile(rf"""(?i)({_NAME}(?:[-_]?id)?["']?\s*[=:]\s*){_VALUE}"""), rf"\1{REDACTED}"),
    (re.compile(rf"(?i)({_BEFORE})(?:{'|'.join(_LOOKS)})"), rf"\1{REDACTED}"),
    (re.compile(r"""(?i)(passw(?:or)?d\s+)(?:"[^"]*"?|'[^']*'?)"""), rf"\1{REDACTED}"),
    (re.compile(r"://[^/\s@]+@"), f"://{REDACTED}@"),
    (re.compile(rf"\b(?:{'|'.join(_KNOWN)})"), REDACTED),
)


def log_tail(text: str) -> str:
    """The last whole lines of a log that have room; of one line that has none, its end."""
    told = (part for line in text.splitlines() for part in plain(line.rstrip()))
    lines = [line.rstrip() for line in told if line.strip()]
    kept = list(_fitting(reversed(lines)))
    if lines and not kept:
        return f"…{_without_secrets(lines[-1]).encode()[-LONGEST:].decode(errors='ignore')}"
    return "\n".join(reversed(kept))


def _fitting(lines: Iterator[str]) -> Iterator[str]:
    """The lines that have room, redacted. They are measured as they were: the first line that the kubelet
    gives may begin amid a secret, and must not move up."""
    room = LONGEST
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            return
        yield _without_secrets(line)


def _without_secrets(line: str) -> str:
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    return safe(line)

"""What strangers write, as it may be shown: names, rows, answers and error texts can hold what a terminal
obeys, or what turns the reading direction of the text around it.
"""

import re
from typing import Final

UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What a terminal obeys, what turns the reading direction, and what no JSON can hold; tabs and newlines may
stay."""
REPLACEMENT: Final = "\ufffd"
LONGEST_LINE: Final = 500


def safe(text: str) -> str:
    """The text with a replacement character for each unsafe one."""
    return UNSAFE.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def safe_line(text: str) -> str:
    """The start of the text, on one line."""
    return safe(" ".join(text.split())[:LONGEST_LINE])

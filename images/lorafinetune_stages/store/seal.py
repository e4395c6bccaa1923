"""The seal of what the store keeps as JSON: a digest over all of it, in a field of its own.

The files of an output have their digests in its manifest; nothing else has those of the manifest. So that no
damaged number is taken for one, what was written must be what is read. It is no signature: whoever may write
to the store can seal.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from lorafinetune.contract.keys import digest

SEAL: Final = "seal"
"""Name of the field."""


def seal(content: Mapping[str, Any]) -> str:
    """Of canonical JSON: of all of it but the seal itself."""
    return digest({name: value for name, value in content.items() if name != SEAL})


def is_sealed(data: bytes) -> bool:
    """Whether it is as it was written, whatever fields it has."""
    try:
        content = json.loads(data)
        return isinstance(content, dict) and content.get(SEAL) == seal(content)
    except (ValueError, RecursionError):
        return False

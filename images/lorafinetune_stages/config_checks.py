"""What the small files of a model may not say, though they hold no code.

For some of it transformers would load code from a hub or read a file that is not the model's; some would keep
it busy for hours, or fill the memory, while it only reads the file.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

MAX_LAYERS: Final = 1024
"""More than any model has."""
COUNTS: Final = ("layer", "layers", "depth", "blocks")
"""How names of numbers of layers end."""
IMPLEMENTATIONS: Final = ("attn_implementation", "experts_implementation")
"""They may name a hub's repository with kernels."""
TOKENIZER: Final = "tokenizer_file"


def config_fault(config: Mapping[str, Any]) -> str:
    """What is wrong with a model's config.json, as a predicate, or an empty string."""
    for name, value in _fields(config):
        if name.lstrip("_") in IMPLEMENTATIONS and "/" in str(value):
            return f"needs code of a hub ({name}), which is never run"
        if name.endswith(COUNTS) and isinstance(value, int) and value > MAX_LAYERS:
            return f"has a config.json whose {name} is more than {MAX_LAYERS}"
    return ""


def tokenizer_fault(config: Mapping[str, Any]) -> str:
    """What is wrong with a model's tokenizer_config.json, as a predicate, or an empty string. A name that was
    left there from where the model was made does no harm, but for the tokenizer's own."""
    for name, value in config.items():
        if not name.endswith("_file") or not isinstance(value, str) or PurePosixPath(value).name == value:
            continue
        if name == TOKENIZER or os.path.isfile(value):
            return f"has a tokenizer_config.json whose {name} is a file elsewhere"
    return ""


def _fields(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a JSON object, and of the objects in it."""
    left: list[Any] = [config]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            yield from value.items()
            left += value.values()
        elif isinstance(value, list):
            left += value

"""The splits that the files of a hub's repository name, read much as Hugging Face's datasets reads names.

A repository is taken whole. Where it has rows to test with beside those to learn from, both would be learned
from without a word: so the source must say which files are meant.
"""

import re
import string
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Final

from lorafinetune.api.sources import HUBS
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.download.selection import fitting, is_data_file
from lorafinetune_stages.hubs import Snapshot
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store.naming import printable

SPLITS: Final = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
BETWEEN_WORDS: Final = re.compile(r"[\W\d_]+")
SHARD: Final = re.compile(r"data/([^/]+)-\d{5}-of-\d{5}")
"""As datasets itself uploads a split, whatever its name."""
MAX_TOLD: Final = 10


def check_splits(origin: Origin, snapshot: Snapshot) -> None:
    """Raises StageError for a whole repository whose files name several splits."""
    if origin.kind != "datasets" or not origin.source.startswith(HUBS) or origin.file:
        return
    rows = sorted(file.path for file in snapshot.files if is_data_file(file.path))
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(split_of(row), set()).add(row)
    if len(found) > 1:
        first = sorted(found, key=lambda split: (not split.startswith("train"), split))[:MAX_TOLD]
        raise _several(origin, len(found), {split: _pattern(found[split], rows) for split in first})


def _several(origin: Origin, count: int, named: dict[str, str]) -> StageError:
    """named: the files of each split that is told; those of the first one are the example."""
    listed = ", ".join(f"{printable(split)} ({printable(files)})" for split, files in named.items())
    more = f" and {count - len(named)} more" if count > len(named) else ""
    meant = printable(next(iter(named.values())))
    return origin.error(
        origin.unusable,
        f"has files of {count} splits, and all would be trained on: {listed}{more}",
        f"Name the files that are meant, like {origin.scheme}://{origin.repository}/{meant}; another split "
        "may be a dataset of its own.",
    )


def split_of(path: str) -> str:
    """The split that a path names, by its file before its folders; one that names none is to train on."""
    if shard := SHARD.match(path):
        return shard[1]
    at = PurePosixPath(path)
    words = (word for part in reversed(at.parts) for word in BETWEEN_WORDS.split(part.lower()))
    return next((SPLITS[word] for word in words if word in SPLITS), "train")


def _pattern(files: set[str], rows: Sequence[str]) -> str:
    """What fits these files and no other rows, or else the first of them."""
    columns = zip(*(file.split("/") for file in files), strict=False)
    pattern = "/".join(_common(set(parts)) for parts in columns)
    fits = fitting(pattern)
    return pattern if files == {row for row in rows if fits(row)} else min(files)


def _common(parts: set[str]) -> str:
    """What fits one part of several paths."""
    pairs = zip(min(parts), max(parts), strict=False)
    start = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return f"{start.rstrip(string.digits)}*" if len(parts) > 1 else start

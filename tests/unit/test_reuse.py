"""What is found is passed on only as it was made."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.reuse import find_whole
from lorafinetune_stages.runtime import Context
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.errors import DamagedError
from lorafinetune_stages.store.manifest import Manifest, commit_manifest
from lorafinetune_stages.store.transfer import upload_tree

KEY: Final = "0" * 64
PLACE: Final = f"exports/{KEY}"
TABLE: Final = {
    "with nothing changed": ({}, True),
    "with another bit in a file that is read": ({"weights": b"wejghts"}, False),
    "with the end cut off a file that is not read": ({"rows": b"row"}, False),
    "with another bit in a file that is not read": ({"rows": b"rowz"}, True),
}
"""What is changed, and whether the output is found nevertheless."""


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(DirectoryStore(tmp_path / "store"), tmp_path, Reporter("export", None))


def made(context: Context) -> Manifest:
    root = context.workdir / "made"
    root.mkdir()
    (root / "weights").write_bytes(b"weights")
    (root / "rows").write_bytes(b"rows")
    files = upload_tree(context.store, root, PLACE)
    return commit_manifest(context.store, PLACE, "exports", KEY, files, {}, None)


@pytest.mark.parametrize("sentence", TABLE)
def test_an_output(sentence: str, context: Context) -> None:
    changes, is_found = TABLE[sentence]
    manifest, found = made(context), None
    for name, content in changes.items():
        context.store.put(f"{PLACE}/{name}", [content])
    with suppress(DamagedError):
        found = find_whole(context, PLACE, "the model", lambda file: file.path != "rows")
    assert found == (manifest if is_found else None)


def test_what_is_not_there_is_not_found(context: Context) -> None:
    assert find_whole(context, PLACE, "the model") is None

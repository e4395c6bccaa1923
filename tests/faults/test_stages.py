"""What the matrix of the stages notices: a manifest without its files, and whose state a place holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from faults.stages import torn, whoever_made_it
from lorafinetune.contract.keys import digest
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import MANIFEST, Manifest, ManifestFile, commit_manifest

PLACE: Final = "trainings/key"
FILES: Final = ("adapter.bin", "metrics.jsonl")
TORN: Final[dict[str, tuple[Callable[[Path], object], list[str]]]] = {
    "all that it names": (lambda _: None, []),
    "none of them": (lambda place: empty(place), [f"{PLACE}: {[*FILES]}"]),
    "one of them cut": (lambda place: (place / FILES[0]).write_bytes(b""), [f"{PLACE}: {[FILES[0]]}"]),
    "one of them changed": (lambda place: (place / FILES[0]).write_bytes(b"B"), [f"{PLACE}: {[FILES[0]]}"]),
    "one that it names no more": (lambda place: forget(place / MANIFEST), [f"{PLACE}: []"]),
}
"""What is done to an output, and what of it is torn then."""


@pytest.mark.parametrize("sentence", TORN)
def test_a_manifest_stands_beside(sentence: str, tmp_path: Path) -> None:
    change, found = TORN[sentence]
    change(output(tmp_path))
    assert list(torn(tmp_path)) == found


def empty(place: Path) -> None:
    for name in FILES:
        (place / name).unlink()


def forget(manifest: Path) -> None:
    """Its first file, and not in the digest of them all."""
    there = Manifest.model_validate_json(manifest.read_bytes())
    manifest.write_text(there.model_copy(update={"files": there.files[1:]}).model_dump_json())


def output(root: Path) -> Path:
    """A complete one, and where it lies."""
    store = DirectoryStore(root, "s3://bucket/runs")
    stored = {name: store.put(f"{PLACE}/{name}", [name[:1].encode()]) for name in FILES}
    files = [ManifestFile(path=name, size=at.size, sha256=at.sha256) for name, at in stored.items()]
    commit_manifest(store, PLACE, "trainings", digest("key"), files, {}, None)
    return root / PLACE


PLACES: Final = {
    "a checkpoint's, without its attempt": ("trainings/k/checkpoints/4/2", "trainings/k/checkpoints/4"),
    "a best adapter's, too": ("trainings/k/best/4/2", "trainings/k/best/4"),
    "a training's, as it is": ("trainings/k", "trainings/k"),
}


@pytest.mark.parametrize("sentence", PLACES)
def test_a_place_is(sentence: str) -> None:
    place, wanted = PLACES[sentence]
    assert whoever_made_it(place) == wanted

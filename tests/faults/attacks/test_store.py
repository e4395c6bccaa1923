"""A store to which somebody else writes too: what lies there is believed only as far as it proves itself."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from faults.attacks.attempt import Attempt
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import ManifestFile, commit_manifest, find_output
from lorafinetune_stages.store.seal import SEAL, seal
from lorafinetune_stages.store.transfer import download_tree

KEY, OTHER = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"other").hexdigest()
PLACE: Final = f"trainings/{KEY}"
WEIGHTS: Final = b"weights"
MADE_AGAIN: Final = "it is not there: it is made again"


@dataclass
class Shared:
    """A store with one output, and a directory beside it that is none of its own."""

    directory: Path

    def __post_init__(self) -> None:
        self.store = DirectoryStore(self.directory / "store")
        self.commit(PLACE, KEY)

    def commit(self, place: str, key: str) -> None:
        self.store.write(f"{place}/weights", WEIGHTS)
        file = ManifestFile(path="weights", size=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest())
        commit_manifest(self.store, place, "trainings", key, [file], {}, None, "2026-01-01T00:00:00Z")

    def path(self, key: str) -> Path:
        return self.directory / "store" / key

    def used(self) -> str:
        """What a stage says that wants the output."""
        try:
            found = find_output(self.store, PLACE)
            if found is None:
                return MADE_AGAIN
            download_tree(self.store, PLACE, found, self.directory / "scratch")
        except StageError as refused:
            return refused.message
        raise AssertionError("it was used")


def manifest(change: Callable[[dict[str, Any]], Any], is_sealed: bool = True) -> Callable[[Shared], str]:
    """The manifest is written anew, changed, and sealed as anybody can."""

    def attempt(shared: Shared) -> str:
        path = shared.path(f"{PLACE}/manifest.json")
        found = json.loads(path.read_bytes())
        change(found)
        path.write_text(json.dumps(found | ({SEAL: seal(found)} if is_sealed else {})))
        return shared.used()

    return attempt


def first_file(**changes: Any) -> Callable[[Shared], str]:
    return manifest(lambda found: found["files"][0].update(changes))


def copied(shared: Shared) -> str:
    """The whole output of another training, moved to where this one's is looked for."""
    shared.commit(f"trainings/{OTHER}", OTHER)
    foreign = shared.path(f"trainings/{OTHER}/manifest.json").read_bytes()
    shared.path(f"{PLACE}/manifest.json").write_bytes(foreign)
    return shared.used()


def exchanged(content: bytes) -> Callable[[Shared], str]:
    def attempt(shared: Shared) -> str:
        shared.path(f"{PLACE}/weights").write_bytes(content)
        return shared.used()

    return attempt


def linked(shared: Shared) -> str:
    """The file becomes a link to one of the machine, of the same size."""
    secret = shared.directory / "secret"
    secret.write_bytes(b"secrets")
    shared.path(f"{PLACE}/weights").unlink()
    shared.path(f"{PLACE}/weights").symlink_to(secret)
    return shared.used()


def operation(call: Callable[[DirectoryStore], Any]) -> Callable[[Shared], str]:
    def attempt(shared: Shared) -> str:
        with pytest.raises(StageError) as refused:
            call(shared.store)
        return refused.value.message

    return attempt


A: Final = "whoever writes to the store"
ATTEMPTS: Mapping[str, Attempt[Shared]] = {
    "the output of another training": Attempt(A, copied, MADE_AGAIN),
    "another's manifest under this key": Attempt(
        A, manifest(lambda found: found.update(key=OTHER)), MADE_AGAIN
    ),
    "a manifest that is changed with the seal it had": Attempt(
        A, manifest(lambda found: found.update(result={"loss": "0.01"}), is_sealed=False), MADE_AGAIN
    ),
    "a manifest that lists a file of another namespace": Attempt(
        A, first_file(path="../../../team-b/finetunes/weights"), "it has the part '..'"
    ),
    "a manifest that lists a file of the store's own": Attempt(
        A, first_file(path=".lorafinetune/partial"), "is kept for the store itself"
    ),
    "a manifest that lists a name with a NUL": Attempt(
        A, first_file(path="weights\0.py"), "it has a control character"
    ),
    "a manifest that lists a name with a line end": Attempt(
        A, first_file(path="weights\r\nx"), "it has a control character"
    ),
    "a manifest with a checksum in capitals": Attempt(A, first_file(sha256="A" * 64), "files.0.sha256"),
    "a manifest with fields that nobody knows": Attempt(
        A, manifest(lambda found: found.update(__proto__={"admin": True})), "__proto__"
    ),
    "other weights of the same size": Attempt(A, exchanged(b"WEIGHTS"), "does not match manifest.json"),
    "a link to a file of the machine": Attempt(A, linked, "leads through a symbolic link"),
    "a key that goes up": Attempt(
        "a user of the namespace",
        operation(lambda store: store.write("../team-b/x", b"")),
        "it has the part '..'",
    ),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_does_not_believe(sentence: str, tmp_path: Path) -> None:
    attempt = ATTEMPTS[sentence]
    words = attempt.try_(Shared(tmp_path))
    assert attempt.refusal in words
    assert words.isprintable()

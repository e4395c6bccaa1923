"""`lorafinetune chat`: the base model and the tuned one answer side by side.

What generates is a program of its own, where the trainer is installed: nothing here imports it.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.fetch import bring
from lorafinetune.cli.runs import has_none, status_of
from lorafinetune.cli.store import StoreLocation, open_store_of
from lorafinetune.contract.arguments import ADAPTER, place
from lorafinetune.contract.keys import model_place
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.steps import stage_status
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.manifest import damaged_files, read_manifest

CACHE: Final = Path("~/.cache/lorafinetune/chat")
NO_TRAINER: Final = "NoTrainer: to run a model takes what trains it. Install it: pip install '.[train]'"


def chat(
    resource: LoRAFineTune, questions: Sequence[str], system: str, tokens: int, where: StoreLocation
) -> int:
    """Asks both; returns the exit code. questions: none means that they are typed. Raises CommandError and
    StageError."""
    if find_spec("peft") is None:
        raise CommandError(NO_TRAINER)
    status = status_of(resource)
    trained = stage_status(status, "train").key
    if not (status.model and status.artifacts and status.artifacts.adapter and trained):
        raise has_none(resource, "adapter")
    store = open_store_of(resource, where)
    base = _directory(store, model_place(status.model), "")
    adapter = _directory(store, place("trainings", trained), ADAPTER)
    options = ["--system", system, "--tokens", str(tokens)]
    command = [sys.executable, "-m", "lorafinetune_stages.talk", *options, str(base), str(adapter), "--"]
    return subprocess.run([*command, *questions], check=False).returncode


def _directory(store: Store, where: str, folder: str) -> Path:
    """An output, or a folder of it, as a directory of this machine; what was fetched once stays. Its name is
    the digest of the content: what is made anew has the same key."""
    manifest = read_manifest(store, where)
    if manifest is None:
        raise StageError(Reason.ARTIFACT_CORRUPT, f"{store.uri}/{where} is not in the store any more")
    if isinstance(store, DirectoryStore):
        if damaged := damaged_files(store, where, manifest):
            raise StageError(Reason.ARTIFACT_CORRUPT, f"{store.uri}/{where}/{damaged[0]} is missing or cut")
        return store.root / where / folder
    kept = CACHE.expanduser() / manifest.digest / folder
    if not kept.exists():
        bring(store, where, manifest, kept, folder)
    return kept

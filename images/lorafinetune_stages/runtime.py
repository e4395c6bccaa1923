"""What a stage runs in: its store, its scratch directory and its reporter."""

from dataclasses import dataclass
from pathlib import Path

from lorafinetune_stages.progress import Reporter
from lorafinetune_stages.store import Store


@dataclass(frozen=True)
class Context:
    """workdir: empty scratch directory. store: the store at `storage.uri`."""

    store: Store
    workdir: Path
    progress: Reporter

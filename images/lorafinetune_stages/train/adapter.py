"""The adapter's directory as it leaves the stage: the same bytes for the same training, on any day and
from any directory. So its digest says whether two trainings have the same result.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.names import base_name, base_revision

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"


def write_adapter(
    trained: Path, root: Path, model: ModelStatus, config: Mapping[str, Any], card: str
) -> None:
    """Fills `root` with what is kept of the trainer's output directory `trained`, and nothing else.

    config: what shaped the training, without paths. card: text of the README.
    """
    root.mkdir(parents=True)
    shutil.move(trained / WEIGHTS, root / WEIGHTS)
    rename_base(trained, model)
    shutil.move(trained / CONFIG, root / CONFIG)
    (root / "training.json").write_text(_json(config))
    (root / "README.md").write_text(card)


def rename_base(directory: Path, model: ModelStatus) -> None:
    """Names the base by hub id and commit in PEFT's configuration, where PEFT has written a path, and
    puts the names of the tuned layers, which come in the chance order of a set, into one order."""
    config = json.loads((directory / CONFIG).read_text())
    targets = config["target_modules"]
    named = {
        **config,
        "base_model_name_or_path": base_name(model),
        "revision": base_revision(model),
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
    }
    (directory / CONFIG).write_text(_json(named))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

"""The base model as the stages see it: its files in the store, and its name for the world.

Everything that leaves the stage names the base by hub id and commit, never by a path of the machine that ran
it.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.names import base_name
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, find_output

WHOLE: Final = "model.safetensors"
"""The weights, where they are in one file."""
INDEX: Final = "model.safetensors.index.json"
"""Which of several files has which tensor."""
MAX_HEADER_BYTES: Final = 16 * 2**20
"""Of a safetensors file: enough for 100,000 tensors, far more than models have in a file. The format allows
100 MB, which may take gigabytes of memory once they are parsed."""
REMOTE_CODE_TYPES: Final = {
    "chatglm": "Of GLM-4-9B, zai-org/glm-4-9b-chat-hf is the same model in transformers' own architecture."
}
"""Architectures that transformers does not have, as they come as code in the repository; and what helps."""


def base_lineage(model: ModelStatus) -> dict[str, Any]:
    """What a manifest says of the base model."""
    return {"source": base_name(model), "commit": model.revision, "digest": model.digest}


def require(store: Store, where: str, what: str) -> Manifest:
    """The manifest of an output that an earlier stage has made.

    Raises StageError(ArtifactCorrupt) where it is not complete. what: the output, for the message.
    """
    if manifest := find_output(store, where):
        return manifest
    raise StageError(
        Reason.ARTIFACT_CORRUPT,
        f"{store.uri}/{where}: {what} is not complete: files were removed after the stage that made it",
        "Run again: the stages whose output is not complete are repeated.",
    )


def forbid_hubs() -> None:
    """No library may ask a hub. To be called before the first import of one that could."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def json_object(name: str, data: bytes) -> Mapping[str, Any]:
    """The JSON object that a file of the base model holds. Raises StageError(ModelUnsupported)."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: {name} is not JSON") from problem
    if not isinstance(value, dict):
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: {name} is not a JSON object")
    return value

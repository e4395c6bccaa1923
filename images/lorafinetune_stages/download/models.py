"""What a model must be to be tuned, proven from its listing and two small files.

Nothing that can run code is taken: weights as safetensors alone, and an architecture that transformers
has itself. A model that can't be used is refused before gigabytes of it are copied.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import INDEX, REMOTE_CODE_TYPES, WHOLE
from lorafinetune_stages.config_checks import config_fault
from lorafinetune_stages.download.selection import is_model_file
from lorafinetune_stages.hubs import RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store.naming import printable, quoted

CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
OTHER_WEIGHTS: Final = (".gguf", ".onnx", ".h5", ".msgpack", ".safetensors")
MAX_JSON_BYTES: Final = 32 * 2**20

GLM4: Final = re.compile(r"(ZhipuAI|THUDM|zai-org)/glm-4-9b(-chat)?(-1m)?")
NATIVE_OWNERS: Final = {"hf": "zai-org", "modelscope": "ZhipuAI"}

Read = Callable[[RemoteFile], bytes]
"""Fetches a small file whole."""


def select_model(origin: Origin, snapshot: Snapshot, read: Read) -> tuple[RemoteFile, ...]:
    """The files of a model: of its weights those that transformers loads, and everything small.

    Raises StageError(ModelUnsupported) for what is no model, or none that can be tuned.
    """
    files = {file.path: file for file in snapshot.files if is_model_file(file.path)}
    names = [file.path for file in snapshot.files]
    if CONFIG not in files:
        raise _no_model(origin, names)
    weights = [name for name in files if name.endswith(".safetensors")]
    if not weights:
        raise _no_safetensors(origin, names)
    _check_native(origin, _object(origin, files[CONFIG], read))
    taken = {WHOLE} if WHOLE in files else {INDEX, *_shards(origin, files, read)}
    return tuple(
        file
        for name, file in files.items()
        if name in taken or not name.endswith((".safetensors", ".safetensors.index.json"))
    )


def _no_model(origin: Origin, names: list[str]) -> StageError:
    if ADAPTER_CONFIG in names:
        return origin.error(
            Reason.MODEL_UNSUPPORTED,
            f"is an adapter, not a model: it has {ADAPTER_CONFIG}, and no {CONFIG}",
            f"Set `{origin.field}.source` to the base model that the adapter was trained on.",
        )
    return origin.error(
        Reason.MODEL_UNSUPPORTED,
        f"has no {CONFIG}",
        "The source must be a directory in transformers' layout: config, tokenizer and safetensors weights.",
    )


def _no_safetensors(origin: Origin, names: list[str]) -> StageError:
    pickles = [name for name in names if name.endswith(PICKLES) and "/" not in name]
    if pickles:
        bot = ", like the conversion bot's, often `refs/pr/1`" if origin.scheme == "hf" else ""
        return origin.error(
            Reason.MODEL_UNSUPPORTED,
            f"has only pickled weights ({_short(pickles)}): they can run code when loaded",
            f"Set `{origin.field}.revision` to one with safetensors weights{bot}, or use another copy of it.",
        )
    others = [name for name in names if name.endswith(OTHER_WEIGHTS) and "/" not in name]
    has = f": only {_short(others)}" if others else ""
    return origin.error(Reason.MODEL_UNSUPPORTED, f"has no safetensors weights{has}")


def _check_native(origin: Origin, config: Mapping[str, Any]) -> None:
    """Refuses what needs code from the repository: it is never run."""
    model_type = config.get("model_type")
    if config.get("auto_map") or str(model_type) in REMOTE_CODE_TYPES:
        named = f" (model_type {quoted(model_type)})" if isinstance(model_type, str) else ""
        hint = _native_twin(origin) or REMOTE_CODE_TYPES.get(str(model_type), "")
        raise origin.error(Reason.MODEL_UNSUPPORTED, f"needs remote code{named}, which is never run", hint)
    if not isinstance(model_type, str):
        raise origin.error(Reason.MODEL_UNSUPPORTED, f"has no model_type in its {CONFIG}")
    if fault := config_fault(config):
        raise origin.error(Reason.MODEL_UNSUPPORTED, fault)


def _native_twin(origin: Origin) -> str:
    if origin.scheme in NATIVE_OWNERS and GLM4.fullmatch(origin.repository):
        name = origin.repository.partition("/")[2]
        twin = f"{origin.scheme}://{NATIVE_OWNERS[origin.scheme]}/{name}-hf"
        return f"Use {twin}: the same model in transformers' own architecture."
    return ""


def _shards(origin: Origin, files: Mapping[str, RemoteFile], read: Read) -> set[str]:
    """The shards that the index names; all of them are listed."""
    if INDEX not in files:
        raise origin.error(
            Reason.MODEL_UNSUPPORTED, f"has safetensors files, but neither {WHOLE} nor {INDEX}"
        )
    weight_map = _object(origin, files[INDEX], read).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise origin.error(Reason.MODEL_UNSUPPORTED, f"has an {INDEX} without a weight_map")
    shards = {str(shard) for shard in weight_map.values()}
    if missing := sorted(
        shard for shard in shards if shard not in files or not shard.endswith(".safetensors")
    ):
        raise origin.error(
            Reason.MODEL_UNSUPPORTED,
            f"is incomplete: {INDEX} names {_short(missing)}, which the source does not have",
            "Use a complete copy of the model, or another revision.",
        )
    return shards


def _object(origin: Origin, file: RemoteFile, read: Read) -> dict[str, Any]:
    if file.size > MAX_JSON_BYTES:
        raise origin.error(
            Reason.MODEL_UNSUPPORTED, f"has {file.size} bytes in {file.path}: too many to read"
        )
    try:
        value = json.loads(read(file))
    except (ValueError, RecursionError) as problem:
        raise origin.error(Reason.MODEL_UNSUPPORTED, f"has a {file.path} that is not JSON") from problem
    if not isinstance(value, dict):
        raise origin.error(Reason.MODEL_UNSUPPORTED, f"has a {file.path} that is not a JSON object")
    return value


def _short(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(printable, names[:3])) + more

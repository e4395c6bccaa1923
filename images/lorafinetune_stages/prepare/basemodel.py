"""The base model's small files, read from the store before anything heavy is imported."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.keys import model_place
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.base import REMOTE_CODE_TYPES, json_object
from lorafinetune_stages.config_checks import config_fault, tokenizer_fault
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import Manifest, find_output

WEIGHTS_SUFFIX: Final = ".safetensors"
MAX_CONFIG_BYTES: Final = 4 * 2**20
MAX_TOKENIZER_BYTES: Final = 256 * 2**20
NAMED_TOKENS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
MARK: Final = re.compile(r"[<\[].+[>\]]")
"""A token that a row may not have where a template writes it. Others are words, and runs of blanks."""


@dataclass(frozen=True)
class BaseModel:
    """place: where its files are in the store. chat_template: its own; empty where it has none."""

    place: str
    manifest: Manifest
    config: Mapping[str, Any]
    chat_template: str

    def small_files(self) -> Manifest:
        """The manifest without the weights: what prepare needs on its disk."""
        return self._files(weights=False)

    def weights(self) -> Manifest:
        """The manifest of the weights alone."""
        return self._files(weights=True)

    def _files(self, weights: bool) -> Manifest:
        files = tuple(file for file in self.manifest.files if file.path.endswith(WEIGHTS_SUFFIX) is weights)
        return self.manifest.model_copy(update={"files": files})


def read_base_model(store: Store, model: ModelStatus) -> BaseModel:
    """Raises StageError where the model is not complete, or is none that can be tuned."""
    where = model_place(model)
    manifest = find_output(store, where)
    if manifest is None:
        raise incomplete(store, where, "model.source")
    config = _json(store, where, manifest, "config.json")
    _check_native(config)
    tokenizer = _json(store, where, manifest, "tokenizer_config.json")
    if fault := config_fault(config) or tokenizer_fault(tokenizer):
        raise StageError(Reason.MODEL_UNSUPPORTED, f"model.source: {fault}")
    return BaseModel(where, manifest, config, _chat_template(store, where, manifest))


def special_tokens(store: Store, model: BaseModel, turns: str = "") -> frozenset[str]:
    """Texts that the model's tokenizer turns into special tokens, and others that say whose turn it is.

    turns: what a template writes around them.
    """
    tokenizer = _json(store, model.place, model.manifest, "tokenizer.json", MAX_TOKENIZER_BYTES)
    config = _json(store, model.place, model.manifest, "tokenizer_config.json")
    decoder = config.get("added_tokens_decoder")
    added = [*_list(tokenizer.get("added_tokens")), *(decoder.values() if isinstance(decoder, dict) else ())]
    marked = [token for token in added if isinstance(token, dict) and _is_mark(token, turns)]
    named = [config.get(name) for name in NAMED_TOKENS]
    texts = (token.get("content") if isinstance(token, dict) else token for token in (*marked, *named))
    return frozenset(text for text in texts if isinstance(text, str) and text)


def _is_mark(token: Mapping[str, Any], turns: str) -> bool:
    """DeepSeek's tokens of roles are not said to be special."""
    content = token.get("content")
    return bool(token.get("special")) or (
        isinstance(content, str) and bool(MARK.fullmatch(content)) and content in turns
    )


def incomplete(store: Store, where: str, field: str) -> StageError:
    """The failure of an input that the download has left, and that is no longer there whole."""
    return StageError(
        Reason.ARTIFACT_CORRUPT,
        f"{field}: {store.uri}/{where} is not complete: files were removed since the download",
        "Run the download again: set the annotation lorafinetune.dev/refresh to another value.",
    )


def _check_native(config: Mapping[str, Any]) -> None:
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise StageError(Reason.MODEL_UNSUPPORTED, "model.source: config.json has no model_type")
    if model_type in REMOTE_CODE_TYPES:
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"model.source: model_type {model_type!r} needs remote code, which is never run",
            REMOTE_CODE_TYPES[model_type],
        )


def _chat_template(store: Store, where: str, manifest: Manifest) -> str:
    """From its own file, or from the tokenizer's configuration: a text, or a list of named ones."""
    if any(file.path == "chat_template.jinja" for file in manifest.files):
        data = store.read(f"{where}/chat_template.jinja", MAX_CONFIG_BYTES) or b""
        return data.decode(errors="replace")
    found = _json(store, where, manifest, "tokenizer_config.json").get("chat_template")
    named = {item.get("name"): item.get("template") for item in _list(found) if isinstance(item, dict)}
    text = named.get("default") if named else found
    return text if isinstance(text, str) else ""


def _json(
    store: Store, where: str, manifest: Manifest, name: str, limit: int = MAX_CONFIG_BYTES
) -> Mapping[str, Any]:
    """A JSON object of the model; empty where the model has no such file."""
    if not any(file.path == name for file in manifest.files):
        return {}
    return json_object(name, store.read(f"{where}/{name}", limit) or b"")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

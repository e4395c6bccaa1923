"""How the result is loaded, as commands and Python to copy. Names come from strangers: all are quoted."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import ModelStatus
from lorafinetune.cli.named import is_file
from lorafinetune.cli.options import STORE
from lorafinetune.cli.reading import status_of
from lorafinetune.cli.what import What
from lorafinetune_stages.base import base_name, base_revision

HUGGING_FACE: Final = "hf://"
QUESTION: Final = '"Who are you?"'
ADAPTER: Final = """from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({base})
base = AutoModelForCausalLM.from_pretrained({base}, dtype="auto")
model = PeftModel.from_pretrained(base, "adapter")
"""
MERGED: Final = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoModelForCausalLM.from_pretrained("model", dtype="auto")
"""


@dataclass(frozen=True)
class Origin:
    """Where the run was read: the name as it was given, and the directory that is the store, or None."""

    name: str
    store: Path | None


@dataclass(frozen=True)
class Loading:
    """One way to the result. title: of the texts. base: the base's source, where that is for the reader to
    fetch; empty: it is found."""

    title: str
    command: str
    python: str
    base: str = ""


def ways(resource: LoRAFineTune, origin: Origin) -> list[Loading]:
    """What there is to load, the best first."""
    status = status_of(resource)
    found = []
    if status.artifacts and status.artifacts.merged:
        found.append(Loading("merged", _fetch(resource, origin, What.MERGED, "model"), MERGED))
    if status.artifacts and status.artifacts.adapter and status.model:
        named = _base(status.model)
        python = ADAPTER.format(base=named or "BASE")
        command = _fetch(resource, origin, What.ADAPTER, "adapter")
        found.append(Loading("adapter", command, python, "" if named else base_name(status.model)))
        found.append(Loading("askBoth", _typed(resource, origin, "chat", QUESTION), ""))
    return found


def _base(model: ModelStatus) -> str | None:
    """The arguments that name a base which transformers finds by itself."""
    if not model.source.startswith(HUGGING_FACE):
        return None
    return f"{json.dumps(base_name(model))}, revision={json.dumps(base_revision(model))}"


def _fetch(resource: LoRAFineTune, origin: Origin, what: What, to: str) -> str:
    return _typed(resource, origin, "fetch", f"--what {what.value} --to {to}")


def _typed(resource: LoRAFineTune, origin: Origin, command: str, options: str) -> str:
    """A command that reads the run where this one did. What came through a pipe is asked for anew."""
    store = "--s3" if origin.store is None else "" if origin.store == STORE else _option(origin.store)
    file = origin.name if is_file(origin.name) and origin.name != "-" else ""
    words = ["lorafinetune", command, shlex.quote(file or "-"), options, store]
    typed = " ".join(word for word in words if word)
    if file:
        return typed
    name, namespace = map(shlex.quote, (resource.metadata.name, resource.metadata.namespace))
    return f"kubectl get lft {name} --namespace {namespace} -o yaml | {typed}"


def _option(store: Path) -> str:
    return f"--store {shlex.quote(str(store))}"

"""How the result is loaded, as commands and Python to copy. Names come from strangers, so all are quoted."""

import json
import shlex
from dataclasses import dataclass
from typing import Final

from lorafinetune.api.sources import HUGGING_FACE
from lorafinetune.api.status import ModelStatus
from lorafinetune.contract.names import base_name, base_revision
from lorafinetune.report.sources import Run

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
    """Where a reader of the page finds the run. file: with its status; empty: it is asked of the cluster.
    store: the option that says where the store is."""

    file: str = ""
    store: str = "--s3"


@dataclass(frozen=True)
class Loading:
    """One way to the result. title: of the texts. base: the base's source, where that is for the reader to
    fetch; empty: it is found."""

    title: str
    command: str
    python: str
    base: str = ""


def ways(run: Run, origin: Origin) -> list[Loading]:
    """What there is to load, the best first."""
    status = run.status
    found = []
    if status.artifacts and status.artifacts.merged:
        found.append(Loading("merged", _fetch(run, origin, "merged", "model"), MERGED))
    if status.artifacts and status.artifacts.adapter and status.model:
        named = _base(status.model)
        python = ADAPTER.format(base=named or "BASE")
        command = _fetch(run, origin, "adapter", "adapter")
        found.append(Loading("adapter", command, python, "" if named else base_name(status.model)))
        found.append(Loading("askBoth", _typed(run, origin, "chat", QUESTION), ""))
    return found


def _base(model: ModelStatus) -> str | None:
    """The arguments that name a base which transformers finds by itself."""
    if not model.source.startswith(HUGGING_FACE):
        return None
    return f"{json.dumps(base_name(model))}, revision={json.dumps(base_revision(model))}"


def _fetch(run: Run, origin: Origin, what: str, to: str) -> str:
    return _typed(run, origin, "fetch", f"--what {what} --to {to}")


def _typed(run: Run, origin: Origin, command: str, options: str) -> str:
    """A command that reads the run where this one did."""
    read = shlex.quote(origin.file or f"{run.namespace}/{run.name}")
    return " ".join(word for word in ("lorafinetune", command, read, options, origin.store) if word)

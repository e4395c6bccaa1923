"""Replaces the places at which LLaMA-Factory 0.9.5 makes the collator and the trainer of a run: it has no
hook.

A test holds each name that is relied on here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from llamafactory.train import tuner
from llamafactory.train.pt import workflow as texts
from llamafactory.train.sft import workflow as answers


@dataclass(frozen=True)
class Workflow:
    """One kind of run: its module, and the names in it of what makes its batches and of its trainer."""

    module: ModuleType
    collator: str
    trainer: str

    def own(self, name: str) -> Any:
        return getattr(self.module, name)

    @contextmanager
    def replaced(self, values: Mapping[str, Any]) -> Iterator[None]:
        """While this is entered, the names stand for these values."""
        originals = {name: self.own(name) for name in values}
        self._set(values)
        try:
            yield
        finally:
            self._set(originals)

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self.module, name, value)


@contextmanager
def connected() -> Iterator[None]:
    """While this is entered, a run does not part the ranks: they have more to say to each other."""
    original = tuner.dist
    tuner.dist = SimpleNamespace(is_initialized=lambda: False)
    try:
        yield
    finally:
        tuner.dist = original


WORKFLOWS: Final = {
    "sft": Workflow(answers, "SFTDataCollatorWith4DAttentionMask", "CustomSeq2SeqTrainer"),
    "pt": Workflow(texts, "DataCollatorForLanguageModeling", "CustomTrainer"),
}
"""By the objective."""

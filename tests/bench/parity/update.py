"""What a first update of an adapter does to the loss, by how numbers are rounded:
`python -m bench.parity.update`.

An adapter begins as zero, and what it adds at first is smaller than the last bit, in bf16, of what it is
added to. Here the same update is made in each type of numbers: every element of B goes by the learning rate
against the sign of its gradient in fp32, as Adam's first does.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.parity.cases import CONVERSATIONS
from bench.parity.models import smollm2
from bench.results import Row, write_results
from bench.train.site import Site

TOKENS: Final = 64
"""Of each conversation: two cores take a minute for eight of them in bf16."""
RATES: Final = (1e-5, 1e-4, 1e-3)
"""The first learning rates of a warm-up, and the last."""
SEED: Final = 1

Signs = Mapping[str, Any]
"""Of each B the signs of its gradient, by its name."""


def main(_: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = smollm2(Path(folder), gpus=0)
        signs: Signs = {}
        found: list[Row] = []
        for name, optimizations in _kinds().items():
            rounded = Rounded(site, optimizations)
            signs = signs or rounded.signs()
            found.append({"numbers": name, **rounded.changes(signs)})
            write_results("update", found)


def _kinds() -> Mapping[str, Any]:
    from lorafinetune_stages.train.optimizations import Optimizations

    return {
        "fp32": Optimizations(),
        "bf16": Optimizations(mixed="bfloat16", cast=True),
        "bf16, compiled": Optimizations(mixed="bfloat16", cast=True, compiled=True, multiple=64),
    }


class Rounded:
    """An adapter on the base, with the optimizations of one type of numbers."""

    def __init__(self, site: Site, optimizations: Any) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        from lorafinetune_stages.train.optimizations import apply

        torch.manual_seed(SEED)
        base = AutoModelForCausalLM.from_pretrained(
            site.model, dtype=torch.bfloat16 if optimizations.mixed else torch.float32
        )
        lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        self._model = get_peft_model(base, lora, autocast_adapter_dtype=True)
        self._optimizations = optimizations
        self._rows = list(_rows(site))
        apply(optimizations, self._model)

    def signs(self) -> Signs:
        import torch

        gradients = torch.autograd.grad(self._loss(), list(self._trained().values()))
        return {name: each.sign() for name, each in zip(self._trained(), gradients, strict=True)}

    def changes(self, signs: Signs) -> Row:
        """The loss of a zero adapter, and by how much each update changes it."""
        import torch

        with torch.no_grad():
            before = float(self._loss())
            changed = {}
            for rate in RATES:
                for name, each in self._trained().items():
                    each.copy_(-rate * signs[name])
                changed[f"change at {rate:g}"] = round(float(self._loss()) - before, 4)
        return {"loss": round(before, 4), **changed}

    def _trained(self) -> Mapping[str, Any]:
        return {name: each for name, each in self._model.named_parameters() if "lora_B" in name}

    def _loss(self) -> Any:
        """In nats a learned token."""
        import torch

        from lorafinetune_stages.train.collator import Collator
        from lorafinetune_stages.train.packed_trainer import pack_nats

        (pack,) = Collator(CONVERSATIONS * 2 * TOKENS, self._optimizations.multiple)(self._rows)["passes"]
        learned = sum(label >= 0 for row in self._rows for label in row["labels"][1:])
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(self._optimizations.mixed)):
            return pack_nats(self._model.get_base_model(), pack, self._optimizations) / learned


def _rows(site: Site) -> Iterator[Mapping[str, list[int]]]:
    from datasets import load_from_disk

    for row in load_from_disk(str(site.root / "rows" / "dataset"))["train"].select(range(CONVERSATIONS)):
        yield {name: row[name][:TOKENS] for name in ("input_ids", "labels")}


if __name__ == "__main__":
    main(sys.argv[1:])

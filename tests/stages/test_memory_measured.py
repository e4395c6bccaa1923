"""Today's estimate of the memory of trainings against what each of them took on a card."""

import json
from typing import Any, Final

import pytest

from bench.results import RESULTS

pytestmark = pytest.mark.model

MEASURED: Final[list[dict[str, Any]]] = [
    row
    for name in ("memory", "memory_pairs")
    for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]
]


@pytest.mark.parametrize("number", range(len(MEASURED)))
def test_what_was_measured_is_estimated_and_at_most_15_percent_more(number: int) -> None:
    import torch

    from bench.memory.cases import CASES, network
    from lorafinetune.contract.keys import resolved_packing
    from lorafinetune.contract.memory import GIB, MemorySettings, choose, usable
    from lorafinetune_stages.shape import measure
    from lorafinetune_stages.train.optimizations import compiles

    case, row = CASES[number], MEASURED[number]
    packed = resolved_packing(case.spec) != "none"
    compiled = packed and compiles(case.spec.lora.variant, case.spec.quantization)
    settings = MemorySettings.of(case.spec, packed=packed, compiled=compiled)
    shape = measure(network(case.model, "meta", torch.bfloat16), case.spec.lora)
    cut = choose(shape, settings, (case.tokens,), case.rows, usable(case.card * GIB))
    assert cut is not None
    told = case.model, case.card, cut.tokens, "yes" if cut.gradient_checkpointing else "no"
    assert told == tuple(row[name] for name in ("model", "card GiB", "tokens in a pass", "checkpointing"))
    assert 1 <= cut.estimate.total / GIB / row["measured GiB"] <= 1.15

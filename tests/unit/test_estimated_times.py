"""What is said of a training's time before it begins, held against the times that were measured."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from bench.results import RESULTS
from builders import GLM_9B
from lorafinetune.api.pods import Gpu
from lorafinetune.api.status import DatasetStatus
from lorafinetune.api.training import Training
from lorafinetune.contract.memory import MemorySettings
from lorafinetune_stages.prepare.feasibility import Feasibility
from stages.prepare_builders import Bench

DIGEST: Final = "0" * 64
STEPS: Final = 1000
ROW: Final = 374
"""Tokens of a conversation in the benchmarks, in the mean."""
NEAR: Final = 1.25
"""By which a time may differ, either way."""
FAR: Final = 1.4
"""Where the host that launches kernels, or the link between cards, takes a part of it."""
IN_TOKENS: Final = {"packing": "tokens", "batch_tokens": 8192}
SPLIT: Final = "2 GPUs of one node, the base split (fsdp2)"

CASES: Final[dict[tuple[str, str], tuple[dict[str, Any], int, float]]] = {
    ("train", "auto"): ({}, 1, NEAR),
    ("train", "auto, 22 conversations a step"): ({}, 1, NEAR),
    ("train", "auto, rows read by another process"): ({}, 1, NEAR),
    ("train", "auto, AdamW unfused"): ({}, 1, NEAR),
    ("train", "packing: tokens"): (IN_TOKENS, 1, NEAR),
    ("train", "fp8"): ({"precision": "fp8"}, 1, NEAR),
    ("train", "fp8, 22 conversations a step"): ({"precision": "fp8"}, 1, NEAR),
    ("train", "packing: tokens, fp8"): ({**IN_TOKENS, "precision": "fp8"}, 1, NEAR),
    ("train", "nf4"): ({"quantization": "nf4"}, 1, NEAR),
    ("train", "nf4, 22 conversations a step"): ({"quantization": "nf4"}, 1, NEAR),
    ("train", "LLaMA-Factory: bf16, 1 × 8 padded"): ({"packing": "none"}, 1, NEAR),
    ("train_gpus", "1 GPU, 8 conversations a step"): ({}, 1, NEAR),
    ("train_gpus", "1 GPU, 22 conversations a step"): ({}, 1, NEAR),
    ("train_gpus", "2 GPUs, 44 conversations a step"): ({}, 2, NEAR),
    ("train_gpus", "2 GPUs, 22 conversations a step"): ({}, 2, NEAR),
    ("train_gpus", "2 GPUs, 16 conversations a step"): ({}, 2, NEAR),
    ("train_gpus", "2 GPUs, 8 conversations a step"): ({}, 2, FAR),
    ("train_nodes", "1 GPU"): ({}, 1, NEAR),
    ("train_nodes", "2 nodes with a GPU each"): ({}, 2, FAR),
    ("train_nodes", SPLIT): ({}, 2, NEAR),
}
"""By result and row: the training, the number of cards, and by how much its time may differ."""


def measured(result: str, name: str) -> dict[str, Any]:
    rows = json.loads((RESULTS / f"{result}.json").read_text())["rows"]
    (found,) = (row for row in rows if name in (row.get("settings"), row.get("program")))
    return dict(found)


def settings_of(training: Training) -> MemorySettings:
    """As prepare finds them for this model."""
    packed = training.packing != "none"
    return MemorySettings.of(training, packed=packed, compiled=packed and training.quantization == "none")


@pytest.mark.parametrize("case", CASES, ids=": ".join)
def test_a_step_takes_about_as_long_as_is_said(case: tuple[str, str], tmp_path: Path) -> None:
    training, gpus, factor = CASES[case]
    row = measured(*case)
    conversations = round(row["tokens a step"] / ROW)
    size = {} if "batch_tokens" in training else {"batch_size": conversations}
    bench = Bench(tmp_path, gpu=Gpu(count=gpus, memory="80Gi")).add(b"")
    arguments = bench.arguments(max_steps=STEPS, **training, **size)
    if case[1] == SPLIT:
        arguments = arguments.model_copy(update={"sharding": "fsdp2"})
    tokens = row["tokens a step"]
    rows = DatasetStatus(
        rows=conversations, tokens=tokens, learned_tokens=tokens, digest=DIGEST, report="s3://a/report.json"
    )
    packs = None if size else 1
    longest = (ROW,) * conversations
    said = Feasibility(arguments, GLM_9B, settings_of, rows, longest, packs).prove()
    assert not said.gradient_checkpointing
    assert 1 / factor < said.seconds / STEPS / (tokens / row["tokens/s"]) < factor

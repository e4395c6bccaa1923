"""How fast the train stage is: `python -m bench.train [NUMBER ...]`, on a machine with one GPU.

Makes a model with the shape of GLM-4-9B, then trains it with each setting in turn, on the same card. Where
there is no GPU it is a tiny model on the CPU, which shows that everything runs, and writes no results.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.results import ROOT, Row, table, write_results
from bench.train.settings import SETTINGS
from bench.train.shape import NINE_BILLION, TINY, make_model, tokenise
from lorafinetune.api.status import ModelStatus
from stages.train_builders import COMMIT, MODEL, put_dataset, stand_in

BOUND_SECONDS: Final = 240
CONVERSATIONS: Final = 1600
MATRIX: Final = 8192
MATRIX_SECONDS: Final = 5
"""Long enough for the card to be as warm, and so as slow, as in a training."""


def main(wanted: list[int]) -> None:
    import torch
    from rich.console import Console

    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as folder:
        lay_out(Path(folder), on_gpu)
        sustained = matrix_rate() if on_gpu else 0.0
        rows = [run(Path(folder), number) for number in wanted]
    shown = [with_share(row, sustained) for row in rows if row]
    if on_gpu:
        write_results("train", shown)
    else:
        Console().print(table("train", shown))


def lay_out(folder: Path, on_gpu: bool) -> None:
    """The model and the rows as the stage has them after its downloads, and what the rows need to know."""
    shape = NINE_BILLION if on_gpu else TINY
    size = make_model(folder / "model", shape, "cuda" if on_gpu else "cpu")
    rows = tokenise(CONVERSATIONS if on_gpu else 200)
    learned = sum(label >= 0 for row in rows for label in row["labels"])
    put_dataset(stand_in(folder), folder, rows)
    model = ModelStatus(source=MODEL, revision=COMMIT, digest="0" * 64, bytes=size)
    facts: dict[str, Any] = {
        "model": model.encode(),
        "gpus": int(on_gpu),
        "flop_per_token": flop_per_token(shape, learned / sum(len(row["labels"]) for row in rows)),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def flop_per_token(shape: dict[str, Any], learned: float) -> float:
    """Forward 2 and input gradient 2 for each frozen weight that a token meets; the head is met where there
    is something to learn, the table of embeddings is none. Attention's own products are left out."""
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"] + 2 * shape["num_key_value_heads"]
    attention = hidden * shape["head_dim"] * (heads + shape["num_attention_heads"])
    layer = attention + 3 * hidden * shape["intermediate_size"]
    flop: float = 4 * (shape["num_hidden_layers"] * layer + learned * hidden * shape["vocab_size"])
    return flop


def matrix_rate() -> float:
    """TFLOP/s of a large bf16 matrix product on this card, kept up for seconds."""
    import torch

    left, right = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    done, began = 0, time.monotonic()
    while time.monotonic() - began < MATRIX_SECONDS:
        for _ in range(100):
            left @ right
        torch.cuda.synchronize()
        done += 100
    rate = done * 2 * MATRIX**3 / (time.monotonic() - began) / 1e12
    del left, right
    torch.cuda.empty_cache()
    return rate


def run(folder: Path, number: int) -> Row | None:
    """One setting in a process of its own. BENCH_PROFILE: a directory for the profiles of two steps."""
    profiles = os.environ.get("BENCH_PROFILE")
    command = [sys.executable, "-m", "bench.train.row", str(folder), str(number)]
    command += [str(Path(profiles) / f"profile-{number}.txt")] if profiles else []
    paths = [str(ROOT / part) for part in ("tests", "operator", "images")]
    path = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, timeout=BOUND_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return {"settings": f"{SETTINGS[number].name}: failed"}
    row: Row = json.loads(done.stdout)
    sys.stderr.write(f"{row}\n")
    return row


def with_share(row: Row, sustained: float) -> Row:
    share = f"{100 * float(row.get('TFLOP/s', 0)) / sustained:.0f}" if sustained else ""
    return {**row, f"% of {sustained:.0f} sustained": share}


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(range(len(SETTINGS))))

"""The models whose curves are drawn, each with real conversations."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.train.site import NINE_BILLION, TINY, Site, make, note_size, put
from stages import peer

SAMPLES: Final = peer.REPOSITORY / "samples"
CONVERSATIONS: Final = SAMPLES / "data" / "emollm" / "aiwei.json"
ROWS: Final = ("self_cognition_EmoLLM.json", "ruozhiba_raw.jsonl")
"""In alpaca's form, with short answers."""
CUTOFF: Final = 128
"""Two cores take some seconds for eight such conversations."""
AS_THE_RECIPE: Final = {"scheduler": "cosine", "warmupRatio": "0.1"}


@dataclass(frozen=True)
class Model:
    """make: fills a directory. training: fields of the spec. steps: unless others are asked for. in_fp16: all
    of them. is_small: a GPU trains all of the table at once."""

    make: Callable[[Path, int], Site]
    training: Mapping[str, Any]
    steps: int
    in_fp16: bool = False
    is_small: bool = False


def smollm2(root: Path, gpus: int) -> Site:
    """The real SmolLM2-135M-Instruct, with rows as LLaMA-Factory itself makes tokens of them."""
    from transformers import AutoModelForCausalLM

    site = Site(root, gpus)
    subprocess.run([sys.executable, str(SAMPLES / "smollm2.py"), str(site.model)], check=True)
    note_size(site, AutoModelForCausalLM.from_pretrained(site.model))
    (root / "peer").mkdir()
    rows = [row for name in ROWS for row in _read(SAMPLES / "data" / "emollm" / name)]
    tokenised = peer.Peer(root / "peer", peer.smollm2()).tokenise(
        rows, {}, template="smollm2", cutoff_len=CUTOFF
    )
    put(
        site,
        [
            {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels}
            for tokens, labels in tokenised
        ],
    )
    return site


def _read(path: Path) -> list[dict[str, str]]:
    text = path.read_text()
    rows: list[dict[str, str]] = (
        [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    )
    return rows


def random_glm(shape: Mapping[str, Any], root: Path, gpus: int) -> Site:
    return make(root, shape, CONVERSATIONS, gpus)


GLM9B: Final = partial(random_glm, NINE_BILLION)
MODELS: Final[Mapping[str, Model]] = {
    "smollm2": Model(
        smollm2, AS_THE_RECIPE | {"learningRate": "1e-3", "cutoffLength": CUTOFF}, 20, is_small=True
    ),
    "glm9b": Model(GLM9B, AS_THE_RECIPE, 40),
    "glm9b_fp16": Model(GLM9B, AS_THE_RECIPE, 40, in_fp16=True),
    "tiny": Model(partial(random_glm, TINY), AS_THE_RECIPE | {"learningRate": "1e-3"}, 12),
}
"""The learning rate is the recipe's; small models learn at ten times that, as in the sample. tiny: to see
that it works."""

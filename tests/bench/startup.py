"""How long each stage program takes to start, and what it holds then: `python -m bench.startup`.

A fresh process imports the program and what it imports before it can answer a cache hit. What it imports
besides, where there is something to make, stands in a row of its own, imported as the program does it. All
of it was compiled before, as it is in the images.
"""

import json
import os
import statistics
import subprocess
import sys
from typing import Final

from bench.results import Row, write_results

REPEATS: Final = 5
PROBE: Final = """
import json, resource, sys, time
began = time.perf_counter()
from contextlib import nullcontext
from importlib import import_module
uncollected, *names = sys.argv[1:]
for name in names:
    with import_module("lorafinetune_stages.imports").uncollected() if uncollected else nullcontext():
        import_module(name)
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "torch": "torch" in sys.modules,
}))
"""
PROGRAM: Final = "lorafinetune_stages.__main__"
CASES: Final[dict[str, tuple[str, ...]]] = {
    "python alone": (),
    "download": (PROGRAM, "lorafinetune_stages.download"),
    "download from S3": (PROGRAM, "lorafinetune_stages.download", "boto3", "obstore"),
    "download from Hugging Face": (
        PROGRAM,
        "lorafinetune_stages.download",
        "lorafinetune_stages.hubs.huggingface",
    ),
    "download from ModelScope": (
        PROGRAM,
        "lorafinetune_stages.download",
        "lorafinetune_stages.hubs.modelscope",
    ),
    "download from a web server": (PROGRAM, "lorafinetune_stages.download", "lorafinetune_stages.hubs.https"),
    "prepare": (PROGRAM, "lorafinetune_stages.prepare"),
    "prepare, to make": (
        PROGRAM,
        "lorafinetune_stages.prepare.dataset_builder",
        "lorafinetune_stages.prepare.preflight",
    ),
    "train": (PROGRAM, "lorafinetune_stages.train"),
    "train, to make": (PROGRAM, "lorafinetune_stages.train.launch"),
    "export": (PROGRAM, "lorafinetune_stages.export"),
    "export, to make": (
        PROGRAM,
        "lorafinetune_stages.export.model_merger",
        "lorafinetune_stages.export.weight_merge",
    ),
    "peer: llamafactory's trainer": ("llamafactory.train.tuner",),
    "command line": ("lorafinetune.cli.program", "lorafinetune.cli.run"),
}
TO_MAKE: Final = ", to make"
SLOW: Final = ("peer", "train, to make")
GOAL: Final = "< 1 s, < 120 MB, no torch"
"""Of download, from wherever: it is the small image, and most of its Jobs only look."""


def main() -> None:
    write_results("startup", [measure(name, modules) for name, modules in CASES.items()])


def measure(name: str, modules: tuple[str, ...]) -> Row:
    """The median of fresh processes; the first, which reads the disk, is not counted."""
    repeats = 1 if name.startswith(SLOW) else REPEATS
    seen = [probe(modules, uncollected=name.endswith(TO_MAKE)) for _ in range(repeats + 1)][1:]
    return {
        "program": name,
        "seconds": round(statistics.median(float(s["seconds"]) for s in seen), 2),
        "MB": round(statistics.median(float(s["megabytes"]) for s in seen)),
        "imports torch": bool(seen[0]["torch"]),
        "goal": GOAL if name.startswith("download") else "",
    }


def probe(modules: tuple[str, ...], *, uncollected: bool) -> dict[str, float | bool]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROBE, "uncollected" if uncollected else "", *modules]
    out = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    seen: dict[str, float | bool] = json.loads(out.stdout.splitlines()[-1])
    return seen


if __name__ == "__main__":
    main()

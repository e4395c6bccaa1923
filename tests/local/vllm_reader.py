"""vLLM's own reader of adapters. It is Python alone, and runs on our torch, with what else it needs in an
environment of its own."""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cluster.environments import environment
from cluster.process import run

PROJECT: Final = Path(__file__).parent / "readers" / "vllm"
PROGRAM: Final = Path(__file__).with_name("vllm_reading.py")
WITHIN: Final = 300


def read(max_rank: int, *adapters: Path) -> list[str]:
    """What vLLM has against each; beside those against which it has nothing lies what it has read."""
    version = ".".join(platform.python_version_tuple()[:2])
    (site,) = environment(PROJECT, "vllm", version).glob("lib/python*/site-packages")
    quiet = {"VLLM_CONFIGURE_LOGGING": "0", "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-P", str(PROGRAM), str(max_rank), *map(str, adapters)]
    printed = run(*command, environment={"PYTHONPATH": str(site), **quiet}, within=WITHIN, name="vLLM")
    return [json.loads(line) for line in printed.splitlines()[-len(adapters) :]]


def updates(adapter: Path) -> Mapping[str, Any]:
    """What vLLM adds to the weight of each module, of an adapter that it has read."""
    from safetensors.torch import load_file

    kept = load_file(adapter.with_suffix(".read"))
    modules = {name.rpartition(".")[0] for name in kept}
    return {name: kept[f"{name}.b"] @ kept[f"{name}.a"] for name in modules}

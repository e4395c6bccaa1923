"""vLLM's own reader of adapters, and its parsers. They are Python alone, and run on our torch, with what else
they need in an environment of their own."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cluster.environments import environment
from cluster.process import run

PROJECT: Final = Path(__file__).parent / "readers" / "vllm"
READING: Final = Path(__file__).with_name("vllm_reading.py")
PARSING: Final = Path(__file__).with_name("vllm_parsing.py")
WITHIN: Final = 300


def read(max_rank: int, *adapters: Path) -> list[str]:
    """What vLLM has against each; beside those against which it has nothing lies what it has read."""
    printed = _run(READING, str(max_rank), *map(str, adapters))
    return [json.loads(line) for line in printed[-len(adapters) :]]


def parse(arguments: Sequence[str], body: str) -> Mapping[str, Any]:
    """What the program PARSING tells of a command, `vllm` left out, and of the body of a request."""
    found: dict[str, Any] = json.loads(_run(PARSING, *arguments, stdin=body)[-1])
    return found


def _run(program: Path, *arguments: str, stdin: str = "") -> list[str]:
    """The lines that it prints."""
    version = ".".join(platform.python_version_tuple()[:2])
    (site,) = environment(PROJECT, "vllm", version).glob("lib/python*/site-packages")
    variables = {"PYTHONPATH": str(site), "VLLM_CONFIGURE_LOGGING": "0", "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-P", str(program), *arguments]
    return run(*command, environment=variables, within=WITHIN, name="vLLM", stdin=stdin).splitlines()


def updates(adapter: Path) -> Mapping[str, Any]:
    """What vLLM adds to the weight of each module, of an adapter that it has read."""
    from safetensors.torch import load_file

    kept = load_file(adapter.with_suffix(".read"))
    modules = {name.rpartition(".")[0] for name in kept}
    return {name: kept[f"{name}.b"] @ kept[f"{name}.a"] for name in modules}

"""Where the weights of a loaded base lie in the files that it was loaded from."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn


def weight_names(base: Any) -> dict[nn.Module, str]:
    """What the files of the base call the weight of a module, which may have an adapter around it."""
    modules = base.named_modules()
    return {module: f"{name.removesuffix('.base_layer')}.weight" for name, module in modules}


def tensor_files(directory: Path) -> dict[str, Path]:
    """The file that holds a tensor, by its name."""
    found: dict[str, Path] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found

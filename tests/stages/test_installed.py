"""What runs in an image imports nothing but what is locked for that image: here more is installed."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PIN: Final = re.compile(r"^([a-z0-9.-]+)==", re.MULTILINE)
OURS: Final = "lorafinetune"
LEFT_OUT: Final = {"train": ["llamafactory.webui", "llamafactory.api"]}
"""Modules of installed packages that the image's Dockerfile removes."""
HIDE: Final = """
import importlib, sys
hidden, wanted = (argument.split() for argument in sys.argv[1:])
sys.modules.update(dict.fromkeys(hidden))
for module in wanted:
    importlib.import_module(module)
"""
TABLE: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "the operator": ("operator", ("lorafinetune.shell.__main__",)),
    "download": ("download", ("lorafinetune_stages.__main__", "lorafinetune_stages.download.stage")),
    "prepare, train and export": (
        "train",
        (
            "lorafinetune_stages.__main__",
            "lorafinetune_stages.prepare.dataset_builder",
            "lorafinetune_stages.train.launch",
            "lorafinetune_stages.export.stage",
            "lorafinetune_stages.export.weight_merge",
            "llamafactory.data",
            "llamafactory.train.tuner",
        ),
    ),
}
"""The image in which it runs, and what it imports."""


@pytest.mark.parametrize("program", TABLE)
def test_what_is_imported_with_what_its_image_holds(program: str) -> None:
    image, wanted = TABLE[program]
    hidden = [*absent(image), *LEFT_OUT.get(image, ())]
    command = [sys.executable, "-c", HIDE, " ".join(hidden), " ".join(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_an_image_does_not_hold_is_hidden() -> None:
    assert {"pytest", "torch", "kopf"} <= set(absent("download"))
    assert {"pytest", "kopf", "kubernetes"} <= set(absent("train"))
    assert not {"torch", "llamafactory", "google", "lorafinetune", "boto3"} & set(absent("train"))


def absent(image: str) -> list[str]:
    """The modules of what is installed here, and is not locked for the image."""
    locked = set(PIN.findall((ROOT / "images" / image / "requirements.txt").read_text())) | {OURS}
    packages = importlib.metadata.packages_distributions()
    return sorted(
        module
        for module, distributions in packages.items()
        if not any(normalised(name) in locked for name in distributions)
    )


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

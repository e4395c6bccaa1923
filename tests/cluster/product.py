"""The product's own images: the Dockerfiles that users build, on the base that needs no registry."""

import functools
from pathlib import Path

from cluster import images

ROOT = Path(__file__).parents[2]
NAMES = ("operator", "download", "train")
ABOUT = {"SOURCE": "https://example.com/lorafinetune", "VERSION": "0.0.0", "REVISION": "0" * 40}
"""Always the same, so that an image is another one only when its content is."""


@functools.cache
def image(name: str) -> str:
    """The reference of one of NAMES: built in seconds, unless its dependencies have changed.

    The training image alone takes three minutes and 7 GB then, so of each no older one is kept.
    """
    return build(ROOT, name, name)


def build(root: Path, name: str, called: str) -> str:
    """One of NAMES from the repository at a place."""
    arguments = {"BASE": images.base(), **ABOUT}
    return images.build(called, root, dockerfile(name, root), arguments, kept=1)


def dockerfile(name: str, root: Path = ROOT) -> Path:
    return root / "images" / name / "Dockerfile"


def product() -> dict[str, str]:
    """All of them: name to reference."""
    return {name: image(name) for name in NAMES}

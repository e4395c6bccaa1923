"""Writes into the values of a chart where the images of a release are, and which ones they are.

usage: python release/pin.py VALUES REGISTRY DIGEST…, with a file NAME.digest for each image that was pushed

A tag can be moved, and a registry can hand out another image for it: a released chart names its images by
digest, so that whoever installs it runs what the release has built, or nothing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

SUFFIX: Final = ".digest"


def pinned(values: str, registry: str, digests: Mapping[str, str]) -> str:
    """The values with these in `images`. All else stays as it is: helm shows people the comments, too."""
    images = _child(yaml.compose(values), "images")
    changes = [(_child(images, "registry"), registry)]
    changes += [(_child(_child(images, name), "digest"), digest) for name, digest in digests.items()]
    for node, text in sorted(changes, key=lambda change: change[0].start_mark.index, reverse=True):
        values = values[: node.start_mark.index] + text + values[node.end_mark.index :]
    return values


def _child(node: yaml.Node | None, name: str) -> yaml.Node:
    """The value of a field. Raises KeyError where there is none."""
    fields: list[tuple[yaml.Node, yaml.Node]] = node.value if node else []
    return {key.value: value for key, value in fields}[name]


def main(values: Path, registry: str, digests: list[Path]) -> None:
    found = {path.name.removesuffix(SUFFIX): path.read_text().strip() for path in digests}
    values.write_text(pinned(values.read_text(), registry, found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]])

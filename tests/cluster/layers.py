"""The layers of an image on their way to a node, so that none goes twice.

A training image is one layer of six gigabytes and a few of kilobytes. When a line of ours changes,
only the latter do; copying the former along would cost minutes. A node knows an unpacked layer by
the chain of digests that it ends.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Layer = Mapping[str, Any]


def chains(layers: Sequence[Layer]) -> Iterator[str]:
    """For each layer, from the lowest, the name of what it makes with all below it, as OCI defines it."""
    chain = ""
    for layer in layers:
        chain = _sha256(f"{chain} {layer['digest']}".encode()) if chain else layer["digest"]
        yield chain


@contextmanager
def stood_in_for(folder: Path, layers: Sequence[Layer], held: Collection[str]) -> Iterator[None]:
    """While the block runs, files of the right name and length, but empty, stand for layers that are held.

    Whoever copies the image into `folder`, in OCI's layout, finds them there and copies them no more.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    known = [layer for layer, chain in zip(layers, chains(layers), strict=True) if chain in held]
    stand_ins = {blobs / layer["digest"].removeprefix("sha256:"): layer["size"] for layer in known}
    for path, size in stand_ins.items():
        with path.open("wb") as file:
            file.truncate(size)
    yield
    for path in stand_ins:
        path.unlink()


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"

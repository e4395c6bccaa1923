"""What the images weigh: what a node pulls and keeps, and what of that is ours: `python -m bench.images`.

They stand on a base of Debian with Python, as in the tests; the public one differs by little.
"""

from pathlib import Path

from bench.results import Row, write_results
from cluster import images, product


def main() -> None:
    base = images.base()
    rows = {"base": base, **product.product()}
    write_results("images", [measure(name, reference, base) for name, reference in rows.items()])


def measure(name: str, reference: str, base: str) -> Row:
    """Megabytes (10⁶ bytes). A node that has the base, or another of the images, pulls less."""
    unpacked = sum(layer["size"] for layer in images.layers(reference))
    below = sum(layer["size"] for layer in images.layers(base))
    return {
        "image": name,
        "pulled MB (zstd)": megabytes(packed(reference)),
        "unpacked MB": megabytes(unpacked),
        "over the base MB": megabytes(unpacked - below),
    }


def packed(reference: str) -> int:
    """Bytes of all that a registry would send."""
    sizes: list[int] = []

    def weigh(_: str, layout: Path) -> None:
        sizes.extend(blob.stat().st_size for blob in (layout / "blobs" / "sha256").iterdir())

    images.export(reference, (), weigh)
    return sum(sizes)


def megabytes(count: int) -> int:
    return round(count / 1e6)


if __name__ == "__main__":
    main()

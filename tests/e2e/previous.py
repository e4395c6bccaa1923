"""What the release or commit before this one installs: its chart, and its images, built from its files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from chart.helm import OPERATOR
from cluster import product
from cluster.process import CommandError, run

HEAVY: Final = "train"
"""The image whose dependencies take minutes and gigabytes: another set of them is not built for a test."""
DEPENDENCIES: Final = (f"images/{HEAVY}/Dockerfile", f"images/{HEAVY}/requirements.txt", "images/uv.txt")


@dataclass(frozen=True)
class Previous:
    """images: references, by the names that the chart has for them."""

    chart: Path
    images: Mapping[str, str]


def commit() -> str:
    """The release before this one, or until there is one the commit before; empty where the history is not
    here, as in a shallow clone."""
    for asked in (("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD~1"), ("rev-parse", "HEAD~1")):
        with suppress(CommandError):
            return _git("rev-list", "--max-count=1", _git(*asked).strip()).strip()
    return ""


@contextmanager
def checked_out(commit: str) -> Iterator[Previous]:
    """As long as the block runs, its files are there: with the modes that ours have, or no layer would do."""
    with TemporaryDirectory() as folder:
        run("git", "clone", "--quiet", "--shared", "--no-checkout", str(product.ROOT), folder)
        run("git", "-C", folder, "checkout", "--quiet", "--detach", commit)
        yield Previous(Path(folder, "charts", OPERATOR), _images(commit, Path(folder)))


def _images(commit: str, folder: Path) -> dict[str, str]:
    """Layers that are as before are not built again, so this takes seconds."""
    has_ours = not _git("diff", "--name-only", commit, "--", *DEPENDENCIES)
    own = [name for name in product.NAMES if name != HEAVY or has_ours]
    return {name: product.build(folder, name, f"previous-{name}") for name in own}


def _git(*arguments: str) -> str:
    return run("git", "-C", str(product.ROOT), *arguments)

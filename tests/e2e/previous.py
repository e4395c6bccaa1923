"""What the release before this one, or the commit FLOOR, installs: its chart, and its images, built here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from chart.helm import OPERATOR
from cluster import product
from cluster.process import CommandError, run

FLOOR: Final = "4fc61a24f3ec49054636ef80e350017d28d4a5ed"
"""What is upgraded from until there is a release: a commit with another definition than today's, since the
commit before might be the same program. It stays where it is when the definition changes again."""
MISSING: Final = (
    "git has nothing to upgrade from: no release before this commit, and no FLOOR in a shallow clone"
)
HEAVY: Final = "train"
"""The image whose dependencies take minutes and gigabytes: another set of them is not built for a test."""
DEPENDENCIES: Final = (f"images/{HEAVY}/Dockerfile", f"images/{HEAVY}/requirements.txt", "images/uv.txt")


@dataclass(frozen=True)
class Previous:
    """images: references, by the names that the chart has for them."""

    chart: Path
    images: Mapping[str, str]


def commit() -> str:
    """The release before this one, or FLOOR; empty where the history is not here, as in a shallow clone."""
    earlier = FLOOR
    with suppress(CommandError):
        earlier = _git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD~1").strip()
    with suppress(CommandError):
        return _git("rev-list", "--max-count=1", earlier).strip()
    return ""


@contextmanager
def built(commit: str) -> Iterator[Previous]:
    """As long as the block runs, its chart is there."""
    with checked_out(commit) as folder:
        yield Previous(folder / "charts" / OPERATOR, _images(commit, folder))


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """As long as the block runs, its files are there: with the modes that ours have, or no layer would do."""
    with TemporaryDirectory() as folder:
        run("git", "clone", "--quiet", "--shared", "--no-checkout", str(product.ROOT), folder)
        run("git", "-C", folder, "checkout", "--quiet", "--detach", commit)
        yield Path(folder)


def _images(commit: str, folder: Path) -> dict[str, str]:
    """Layers that are as before are not built again, so this takes seconds."""
    has_ours = not _git("diff", "--name-only", commit, "--", *DEPENDENCIES)
    own = [name for name in product.NAMES if name != HEAVY or has_ours]
    return {name: product.build(folder, name, f"previous-{name}") for name in own}


def _git(*arguments: str) -> str:
    return run("git", "-C", str(product.ROOT), *arguments)

"""`file://PATH`: a directory, or one file, of the machine that runs the stages. For local runs.

A directory has no commits. The digest of the contents stands for one, so a copy of it elsewhere is
the same thing.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lorafinetune.contract.keys import digest
from lorafinetune_stages.hubs import MAX_FILES, RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store.streams import chunks_of


class DirectorySource:
    """A model's directory, of which only the top level is listed; a dataset's directory, or its file.

    wanted: whether a path counts for the revision, and is hashed.
    """

    def __init__(self, origin: Origin, wanted: Callable[[str], bool]) -> None:
        self._origin = origin
        self._wanted = wanted
        self._files: dict[str, Path] = {}

    def snapshot(self) -> Snapshot:
        with self._failures():
            root = Path(self._origin.path).resolve(strict=True)
            single = root.is_file() and self._origin.kind == "datasets"
            self._files = {root.name: root} if single else self._find(root)
            files = tuple(
                self._describe(name, path, single or self._wanted(name))
                for name, path in sorted(self._files.items())
            )
        counted = [(file.path, file.size, file.sha256) for file in files if file.sha256]
        return Snapshot(digest(counted), files, single)

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        with self._failures(), self._files[file.path].open("rb") as content:
            content.seek(offset)
            yield from chunks_of(content)

    def _find(self, root: Path) -> dict[str, Path]:
        if not root.is_dir():
            raise self._origin.error(self._origin.missing, "is not a directory")
        paths = root.iterdir() if self._origin.kind == "models" else _below(root)
        files = {path.relative_to(root).as_posix(): self._inside(root, path) for path in paths}
        if len(files) > MAX_FILES:
            raise self._origin.too_many_files()
        return {name: path for name, path in files.items() if path.is_file()}

    def _inside(self, root: Path, path: Path) -> Path:
        """The path itself, or the file that a link leads to; a link that leads out is refused."""
        if not path.is_symlink() or not self._wanted(path.relative_to(root).as_posix()):
            return path
        target = path.resolve(strict=True)
        if not target.is_relative_to(root):
            what = f"has a link that leads out of it: {path.relative_to(root)}"
            hint = "Copy the directory with `cp -rL`, which copies what the links lead to."
            raise self._origin.error(self._origin.unusable, what, hint)
        return target

    def _describe(self, name: str, path: Path, counted: bool) -> RemoteFile:
        if not counted:
            return RemoteFile(name, path.stat().st_size)
        with path.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            return RemoteFile(name, content.tell(), sha256)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as problem:
            raise self._origin.error(self._origin.missing, f"does not exist: {problem.filename}") from problem
        except OSError as problem:
            what = f"can't be read: {problem.strerror}: {problem.filename}"
            raise self._origin.error(self._origin.missing, what) from problem


def _below(root: Path) -> Iterator[Path]:
    """Everything below a directory but directories, through no link."""
    for directory, _, names in os.walk(root):
        yield from (Path(directory) / name for name in names)

"""Which files of a source are taken, by their names. Everything else is left where it is."""

import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from lorafinetune_stages.datafiles import METADATA, ROW_SUFFIXES, is_row_file
from lorafinetune_stages.hubs import MAX_FILES, RemoteFile, Snapshot
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.store.manifest import MANIFEST
from lorafinetune_stages.store.naming import key_fault, quoted

log = logging.getLogger("lorafinetune")

MODEL_FILES: Final = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
LICENCE_FILES: Final = ("LICENSE*", "LICENCE*", "NOTICE*")
README_FILES: Final = ("README*",)
MAX_LOGGED: Final = 20
NOT_COUNTED: Final = f"Hidden files are not counted, nor are {', '.join(METADATA)}: name a file of rows."


def is_model_file(path: str) -> bool:
    """Whether a file belongs to a model; only the top level counts."""
    return _is_one_of(path, MODEL_FILES) or is_licence_file(path) or _is_one_of(path.upper(), README_FILES)


def is_licence_file(path: str) -> bool:
    """Whether a file is a licence or a notice, in whatever case: these names are for people."""
    return _is_one_of(path.upper(), LICENCE_FILES)


def is_data_file(path: str) -> bool:
    """Whether a file of a whole repository, prefix or directory may hold rows."""
    return path != MANIFEST and is_row_file(path)


def wanted_from(origin: Origin) -> Callable[[str], bool]:
    """Whether a file of that path can be of use."""
    if origin.kind == "models":
        return is_model_file
    return fitting(origin.file) if origin.file else is_data_file


def fitting(file: str) -> Callable[[str], bool]:
    """Whether a path is the file that a source names, or has rows and fits its pattern, as in a shell."""
    if "*" not in file:
        return lambda path: path == file
    parts = file.split("/")
    return lambda path: path == file or (is_data_file(path) and _fits(path.split("/"), parts))


def check_names(origin: Origin, snapshot: Snapshot) -> None:
    """Raises StageError for a listing with a name that could lead out of the store, or is there twice."""
    if len(snapshot.files) > MAX_FILES:
        raise origin.too_many_files()
    seen: set[str] = set()
    folders = {str(folder) for file in snapshot.files for folder in PurePosixPath(file.path).parents}
    for file in snapshot.files:
        if fault := _fault(file, seen, folders):
            raise origin.error(
                origin.unusable, f"lists the file {quoted(file.path)}, which is refused: {fault}"
            )
        seen.add(file.path)


def select_data(origin: Origin, snapshot: Snapshot) -> tuple[RemoteFile, ...]:
    """The files of a dataset: those that the source names, or all that may hold rows.

    Raises StageError where there is none, or one is empty.
    """
    wanted = wanted_from(origin)
    files = snapshot.files if snapshot.single else tuple(file for file in snapshot.files if wanted(file.path))
    if not files and "*" in origin.file:
        raise origin.error(origin.missing, f"fits no file of {origin.repository} that may hold rows")
    if not files and origin.file:
        raise origin.error(origin.missing, f"does not exist: {origin.repository} has no such file")
    if not files:
        what = f"has no file that ends in {', '.join(ROW_SUFFIXES)}"
        raise origin.error(origin.unusable, what, NOT_COUNTED)
    if empty := next((file.path for file in files if file.size == 0), None):
        raise origin.error(origin.unusable, f"has no rows: the file {empty} is empty")
    if any(file.path == MANIFEST for file in files):
        what = f"can't be stored: a dataset's file can't be named {MANIFEST}"
        raise origin.error(origin.unusable, what, "Give the file another name.")
    return files


def log_left_out(origin: Origin, snapshot: Snapshot, taken: tuple[RemoteFile, ...]) -> None:
    left = sorted({file.path for file in snapshot.files} - {file.path for file in taken})
    if left:
        more = f" and {len(left) - MAX_LOGGED} more" if len(left) > MAX_LOGGED else ""
        log.info("%s: left out %s%s", origin.source, ", ".join(left[:MAX_LOGGED]), more)


def _is_one_of(path: str, names: tuple[str, ...]) -> bool:
    return "/" not in path and any(fnmatchcase(path, name) for name in names)


def _fits(parts: list[str], patterns: list[str]) -> bool:
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _fault(file: RemoteFile, seen: set[str], folders: set[str]) -> str:
    if "\\" in file.path:
        return "it has a backslash"
    if file.path in seen:
        return "it is listed twice"
    if file.path in folders:
        return "it is a folder too"
    return key_fault(file.path) or ("its size is negative" if file.size < 0 else "")

"""Which files may hold rows, by their names: download copies them, and prepare reads them."""

from pathlib import PurePosixPath
from typing import Final

ROW_SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".parquet", ".csv")


def is_row_file(path: str) -> bool:
    """Whether a file of a whole repository, prefix or directory may hold rows."""
    return PurePosixPath(path).suffix.lower() in ROW_SUFFIXES

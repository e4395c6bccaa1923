"""Which files may hold rows, by their names: download copies them, and prepare reads them."""

from pathlib import PurePosixPath
from typing import Final

ROW_SUFFIXES: Final = (".json", ".jsonl", ".ndjson", ".parquet", ".csv")
METADATA: Final = (
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "state.json",
)
"""What Hugging Face's datasets and LLaMA-Factory keep beside rows: it says what they are, and has none."""


def is_row_file(path: str) -> bool:
    """Whether a file of a whole repository, prefix or directory may hold rows. Hidden ones never do."""
    at = PurePosixPath(path)
    hidden = any(part.startswith(".") for part in at.parts)
    return not hidden and at.suffix.lower() in ROW_SUFFIXES and at.name.lower() not in METADATA

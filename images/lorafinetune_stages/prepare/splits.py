"""The dataset that LLaMA-Factory loads through `tokenized_path`, byte for byte repeatable: what is the same
whatever its rows are.

Importing this module imports datasets, which takes long.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, disable_progress_bars
from datasets.table import InMemoryTable

from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings, RowError
from lorafinetune_stages.prepare.output import ONLY_SHARD
from lorafinetune_stages.prepare.report import Pieces, SplitSummary
from lorafinetune_stages.store import Advance


@dataclass(frozen=True)
class Splits(ABC):
    """Writes the splits of a dataset. features: its columns. root: scratch directory. advance: gets rows."""

    features: ClassVar[Features]

    corpus: Corpus
    findings: Findings
    root: Path
    advance: Advance

    @abstractmethod
    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        """Tokenises rows into `root/NAME.arrow`; a row that the cutoff spoils, or whose tools the template
        can't write, is bad, and left out."""

    @abstractmethod
    def samples(self, rows: Sequence[int]) -> list[Pieces]:
        """These rows as the model sees them, but for those that the template can't write."""

    def accepts(self, row: int, place: str, check: Callable[..., None], *what: Any) -> bool:
        """Whether a check of a row that was merged passes; the row is bad where it raises RowError."""
        try:
            check(*what)
        except RowError as problem:
            self.findings.leave_out(row, self.corpus.dataset_of(row), place, problem)
            return False
        return True

    def warnings(self) -> Iterator[str]:
        """What a person should know of the way in which the rows are learned."""
        yield from ()

    def save(self, names: Sequence[str], directory: Path, fingerprint: str) -> None:
        """Makes one dataset of the splits. fingerprint: takes the place of datasets' random one.

        datasets would copy what it is given, and map all of it into memory: so it gets a dataset without
        rows, and the file with the rows then takes the place of the empty one.
        """
        disable_progress_bars()
        empty = InMemoryTable(self.features.arrow_schema.empty_table())
        splits = {name: Dataset(empty, fingerprint=fingerprint) for name in names}
        DatasetDict(splits).save_to_disk(directory, num_shards=dict.fromkeys(names, 1))
        for name in names:
            self.path(name).replace(directory / name / ONLY_SHARD)

    def path(self, name: str) -> Path:
        return self.root / f"{name}.arrow"


@contextmanager
def writer(path: Path, features: Features) -> Iterator[Any]:
    """Takes the record batches of one split."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, features.arrow_schema) as written:
        yield written


def sequences(tokens: Any, labels: Any, ends: Any) -> list[Any]:
    """The columns of tokens, their mask and their labels. ends: of each row in the tokens of all."""
    starts = pa.array(np.append(0, ends).astype(np.int32))
    values = (tokens, np.ones(len(tokens), np.int8), labels)
    return [pa.ListArray.from_arrays(starts, pa.array(column)) for column in values]

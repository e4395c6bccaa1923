"""All datasets, read, checked, cleaned and merged, kept on disk so that memory stays bounded."""

import bisect
import itertools
import logging
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lorafinetune.api.reasons import Reason
from lorafinetune.api.spec import Dataset
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.cleaning import clean
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Findings, Kind, Place, RowError
from lorafinetune_stages.prepare.formats import FormatName, Reader, find_reader, table_columns
from lorafinetune_stages.prepare.inputs import DatasetFiles
from lorafinetune_stages.prepare.reading import read_rows
from lorafinetune_stages.prepare.texts import Texts, said
from lorafinetune_stages.store import Advance

log = logging.getLogger("lorafinetune")

ROWS_TO_RECOGNISE: Final = 20


@dataclass
class Corpus:
    """Good rows in merge order, numbered from 0, as lines of a scratch file. A context manager.

    counts: good rows of every dataset. formats: what its files were read as, by dataset.
    """

    path: Path
    counts: list[int] = field(default_factory=list)
    formats: list[dict[str, FormatName]] = field(default_factory=list)
    _ends: "array[int]" = field(default_factory=lambda: array("Q", [0]))

    def __enter__(self) -> Self:
        self._file = self.path.open("w+b")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, place: Place, conversation: Conversation) -> None:
        """Adds a row to the last dataset of `counts`."""
        line = b"%s\t%s\n" % (str(place).encode(), conversation.encode())
        self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))
        self.counts[-1] += 1

    def read(self, rows: Sequence[int]) -> Iterator[tuple[str, Conversation]]:
        """Place and conversation of the rows with these numbers."""
        self._file.flush()
        for row in rows:
            start, end = self._ends[row], self._ends[row + 1]
            self._file.seek(start)
            place, _, line = self._file.read(end - start).rpartition(b"\t")
            yield place.decode(), Conversation.decode(line)

    def dataset_of(self, row: int) -> int:
        """The dataset that a row is from."""
        return bisect.bisect_right(list(itertools.accumulate(self.counts)), row)


@dataclass(frozen=True)
class Merger:
    """Reads datasets below `root` (`INDEX/PATH`), good rows into the corpus and bad ones into findings.

    advance: gets the bytes that were read.
    """

    corpus: Corpus
    findings: Findings
    texts: Texts
    root: Path
    advance: Advance

    def merge(self, datasets: Sequence[DatasetFiles]) -> None:
        """Raises StageError(DatasetInvalid) for a file that can't be read, or a dataset without rows."""
        for index, source in enumerate(datasets):
            self._check_system(index, source)
            self.corpus.counts.append(0)
            self.corpus.formats.append({})
            for file in source.files:
                self._merge_file(index, source, file.path)
            if not self.findings.rows[index]:
                raise _empty(index, source)

    def _merge_file(self, index: int, source: DatasetFiles, name: str) -> None:
        path, columns = self.root / str(index) / name, table_columns(source.dataset)
        rows = read_rows(path, name, self.advance, columns)
        first = list(itertools.islice(rows, ROWS_TO_RECOGNISE))
        if not first:
            return
        reader = find_reader(source.dataset, index, first)
        self.corpus.formats[index][name] = reader.format
        how = "recognised as" if reader.recognised else "declared"
        log.info("datasets[%d]: %s is %s %s", index, name, how, reader.format)
        for place, row in itertools.chain(first, rows):
            if self.corpus.counts[index] == source.dataset.max_samples:
                return
            self.findings.count_row(index)
            try:
                self.corpus.append(place, self._conversation(row, reader, source.dataset))
            except RowError as problem:
                self.findings.add(index, str(place), problem)

    def _conversation(self, row: Any, reader: Reader, dataset: Dataset) -> Conversation:
        """Raises RowError."""
        if isinstance(row, RowError):
            raise row
        conversation = clean(reader.convert(row, self.texts), dataset.clean)
        for index, turn in enumerate(conversation.turns):
            if turn.role == "assistant":
                field = f"answer {index // 2 + 1}"
                said(turn.content, Kind.EMPTY_ANSWER, field, "nothing is left after cleaning")
        return replace(conversation, system=dataset.system or conversation.system)

    def _check_system(self, index: int, source: DatasetFiles) -> None:
        try:
            self.texts.text(source.dataset.system, f"datasets[{index}].system")
        except RowError as problem:
            raise StageError(Reason.CONFIG_INVALID, str(problem)) from problem


def _empty(index: int, source: DatasetFiles) -> StageError:
    names = ", ".join(file.path for file in source.files[:3])
    return StageError(
        Reason.DATASET_INVALID,
        f"datasets[{index}]: {names}: the dataset is empty",
        f"Put rows into the file, or remove datasets[{index}].",
    )

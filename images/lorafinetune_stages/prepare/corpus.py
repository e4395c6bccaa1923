"""All datasets, read, checked, cleaned and merged, kept on disk so that memory stays bounded."""

import bisect
import itertools
import logging
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.cleaning import Cleaner
from lorafinetune_stages.prepare.conversation import Conversation, Packed
from lorafinetune_stages.prepare.findings import Findings, Kind, Place, Row, RowError
from lorafinetune_stages.prepare.fingerprints import Fingerprints, Marks
from lorafinetune_stages.prepare.formats import FORMATS, FormatName, Reader, table_columns, tells
from lorafinetune_stages.prepare.inputs import DatasetFiles
from lorafinetune_stages.prepare.naming import check_there
from lorafinetune_stages.prepare.preference import check_pair
from lorafinetune_stages.prepare.reading import Taken, read_quickly, read_rows
from lorafinetune_stages.prepare.recognising import find_reader
from lorafinetune_stages.prepare.rowfile import Load, RowFile
from lorafinetune_stages.prepare.texts import Texts, require_text
from lorafinetune_stages.store import Advance, ignore_progress

if TYPE_CHECKING:
    from lorafinetune_stages.prepare.quick import Quick

log = logging.getLogger("lorafinetune")

OBJECTS_TO_RECOGNISE: Final = 20
ANY_READER: Final = Reader("alpaca", FORMATS["alpaca"].columns, recognised=False)
"""For a file in which no row is an object: it is bad in every format."""


@dataclass
class Corpus:
    """Good rows in merge order, numbered from 0, in blocks on the disk. A context manager.

    counts: good rows of every dataset. formats: what its files were read as, by dataset. sizes: characters
    of every row.
    """

    path: Path
    counts: list[int] = field(default_factory=list)
    formats: list[dict[str, FormatName]] = field(default_factory=list)
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    sizes: "array[int]" = field(default_factory=lambda: array("I"))
    _answers: list[set[str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._file = self.path.open("w+b", buffering=0)
        self._rows = RowFile(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return sum(self.counts)

    def begin_dataset(self) -> None:
        """What is added from now on belongs to the next dataset."""
        self.counts.append(0)
        self.formats.append({})
        self._answers.append(set())

    def append(self, place: Place, conversation: Conversation) -> None:
        """Adds a row to the last dataset."""
        self.append_packed(conversation.pack(str(place)))

    def append_packed(self, row: Packed) -> None:
        """The same of a row as it is kept."""
        self._rows.append(row)
        self._note(Marks.of([row]))

    def extend(self, marks: Marks, size: int, load: Load) -> None:
        """Adds rows to the last dataset that are kept where they came from. size: in bytes."""
        self._rows.extend(len(marks.rows), size, load)
        self._note(marks)

    def _note(self, marks: Marks) -> None:
        self.counts[-1] += len(marks.rows)
        self.fingerprints.add(marks)
        self.sizes.extend(marks.sizes)
        if len(self._answers[-1]) < 2:
            self._answers[-1].update(marks.answers)

    def settle(self) -> None:
        """All rows are there: from now on copies of this process can read them, too."""
        self._rows.write()

    def read(self, rows: Iterable[int]) -> Iterator[tuple[str, Conversation]]:
        """Place and conversation of the rows with these numbers."""
        return map(Conversation.unpack, self.read_packed(rows))

    def read_packed(self, rows: Iterable[int]) -> Iterator[Packed]:
        """These rows as they are kept."""
        return self._rows.read(rows)

    def lasts(self) -> set[int]:
        """Numbers of the rows after which it costs least to stop reading."""
        return self._rows.lasts()

    def dataset_of(self, row: int) -> int:
        """The dataset that a row is from."""
        return bisect.bisect_right(list(itertools.accumulate(self.counts)), row)

    def count_by_dataset(self, rows: Sequence[int]) -> list[int]:
        """How many of these rows, which ascend, are of each dataset."""
        ends = [bisect.bisect_left(rows, end) for end in itertools.accumulate(self.counts)]
        return [end - start for start, end in itertools.pairwise([0, *ends])]

    def pools(self, without: Collection[int] = ()) -> list[Sequence[int]]:
        """Numbers of the rows of every dataset, but for some."""
        ends = list(itertools.accumulate(self.counts))
        ranges = [range(end - count, end) for end, count in zip(ends, self.counts, strict=True)]
        if not without:
            return list(ranges)
        left = set(without)
        return [array("Q", (row for row in rows if row not in left)) for rows in ranges]

    def monotonous(self) -> list[int]:
        """The datasets of several rows whose last answers are all equal."""
        several = (index for index, count in enumerate(self.counts) if count > 1)
        return [index for index in several if len(self._answers[index]) == 1]


@dataclass(frozen=True)
class Merger:
    """Reads datasets below `root` (`INDEX/PATH`), good rows into the corpus and bad ones into findings.

    advance: gets the bytes that were read. objective: what the rows are for.
    """

    corpus: Corpus
    findings: Findings
    texts: Texts
    root: Path
    advance: Advance
    objective: Objective = "sft"

    def merge(self, datasets: Sequence[DatasetFiles]) -> None:
        """Raises StageError for a file that can't be read, a dataset without rows, or unusable rules."""
        rules = [
            Cleaner(source.dataset.clean, f"datasets[{index}].clean") for index, source in enumerate(datasets)
        ]
        for index, (source, cleaner) in enumerate(zip(datasets, rules, strict=True)):
            self._check_system(index, source)
            self.corpus.begin_dataset()
            try:
                self._merge_dataset(index, source, cleaner)
            except StageError as error:
                where = f"datasets[{index}]"
                if error.reason is not Reason.DATASET_INVALID or error.message.startswith(where):
                    raise
                # files of several datasets may have one name
                raise StageError(error.reason, f"{where}: {error.message}", error.hint) from error

    def _merge_dataset(self, index: int, source: DatasetFiles, cleaner: Cleaner) -> None:
        """Reads nothing beyond the last row that is used: what is broken there is nobody's concern."""
        for file in source.files:
            self._merge_file(index, source, file.path, cleaner)
            if self._is_full(index, source.dataset):
                return
        if not self.findings.rows[index]:
            raise _empty(index, source)

    def _merge_file(self, index: int, source: DatasetFiles, name: str, cleaner: Cleaner) -> None:
        dataset, path = source.dataset, self.root / str(index) / name
        columns = table_columns(dataset, self.objective)
        first = _first_objects(read_rows(path, name, ignore_progress, columns), dataset, self.objective)
        reader = self._find_reader(index, source, name, first, cleaner) if first else ANY_READER
        quick = self._quick(reader, cleaner, dataset, path, name)
        for found in read_quickly(path, name, self.advance, columns, quick):
            if isinstance(found, Taken):
                self._take(index, found, dataset.max_samples)
            else:
                self._take_one(index, *found, reader, cleaner)
            if self._is_full(index, dataset):
                return

    def _is_full(self, index: int, dataset: Dataset) -> bool:
        return self.corpus.counts[index] == dataset.max_samples

    def _find_reader(
        self, index: int, source: DatasetFiles, name: str, first: Sequence[Row], cleaner: Cleaner
    ) -> Reader:
        reader = find_reader(source.dataset, index, first, self.objective)
        if not self.corpus.formats[index]:
            files = name if len(source.files) == 1 else f"the {len(source.files)} files"
            within = f"{files} within maxSamples" if source.dataset.max_samples else files
            rows = self._used(self._rows(index, source), source.dataset.max_samples, reader, cleaner)
            check_there(reader, source.dataset.columns, index, within, rows)
        self.corpus.formats[index][name] = reader.format
        how = "recognised as" if reader.recognised else "declared"
        log.info("datasets[%d]: %s is %s %s", index, name, how, reader.format)
        return reader

    def _rows(self, index: int, source: DatasetFiles) -> Iterator[Any]:
        """All rows of a dataset, as they are."""
        columns = table_columns(source.dataset, self.objective)
        for file in source.files:
            path = self.root / str(index) / file.path
            for _, row in read_rows(path, file.path, ignore_progress, columns):
                yield row

    def _used(
        self, rows: Iterable[Any], limit: int | None, reader: Reader, cleaner: Cleaner
    ) -> Iterator[Any]:
        """Rows up to as many good ones as are used."""
        good = 0
        for row in rows:
            yield row
            good += limit is not None and self._is_good(row, reader, cleaner)
            if good == limit:
                return

    def _is_good(self, row: Any, reader: Reader, cleaner: Cleaner) -> bool:
        try:
            self._cleaned(row, reader, cleaner)
        except RowError:
            return False
        return True

    def _quick(
        self, reader: Reader, cleaner: Cleaner, dataset: Dataset, path: Path, name: str
    ) -> "Quick | None":
        """The short way into the corpus, where the rows need nothing that it does not do."""
        pack = None if cleaner.changes else reader.packer()
        if pack is None:
            return None
        from lorafinetune_stages.prepare.quick import (
            Quick,
        )  # imports numpy, which most kinds of files need not

        return Quick(pack, dataset.system, self.texts.may_refuse, path, name)

    def _take(self, index: int, taken: Taken, limit: int | None) -> None:
        """Good rows, up to the limit."""
        count = len(taken.marks.rows)
        room = count if limit is None else min(count, limit - self.corpus.counts[index])
        self.findings.count_rows(index, room)
        if room == count:
            self.corpus.extend(taken.marks, taken.stretch.size, taken.load)
        else:
            for row in taken.load()[:room]:
                self.corpus.append_packed(row)

    def _take_one(self, index: int, place: Place, row: Any, reader: Reader, cleaner: Cleaner) -> None:
        self.findings.count_rows(index, 1)
        try:
            conversation = self._cleaned(row, reader, cleaner)
        except RowError as problem:
            self.findings.add(index, str(place), problem)
            return
        if system := self.findings.datasets[index].system:
            conversation = replace(conversation, system=system)
        self.corpus.append(place, conversation)

    def _cleaned(self, row: Any, reader: Reader, cleaner: Cleaner) -> Conversation:
        """Raises RowError."""
        if isinstance(row, RowError):
            raise row
        found = reader.convert(row, self.texts)
        cleaned = cleaner.clean(found)
        if cleaned is found:
            return found
        kind = Kind.EMPTY_TEXT if self.objective == "pt" else Kind.EMPTY_ANSWER
        for index, turn in enumerate(cleaned.turns):
            if turn.role == "assistant":
                field = self._named(index, len(cleaned.turns))
                require_text(turn.content, kind, field, "nothing is left after cleaning")
                self.texts.text(turn.content, field)  # what is taken out may leave a special token behind
        if self.objective == "dpo":
            check_pair(cleaned, "after cleaning")
        return cleaned

    def _named(self, index: int, turns: int) -> str:
        """An answer that was cleaned, for a message. index: its turn's."""
        if self.objective == "pt":
            return "the text"
        rejected = self.objective == "dpo" and index == turns - 1
        return "the rejected answer" if rejected else f"answer {index // 2 + 1}"

    def _check_system(self, index: int, source: DatasetFiles) -> None:
        try:
            self.texts.text(source.dataset.system, f"datasets[{index}].system")
        except RowError as problem:
            raise StageError(Reason.CONFIG_INVALID, str(problem)) from problem


def _first_objects(rows: Iterator[Row], dataset: Dataset, objective: Objective) -> list[Row]:
    """Objects up to one that tells the format, which most often is the first row."""
    taken: list[Row] = []
    objects = ((place, row) for place, row in rows if isinstance(row, dict))
    for place, row in itertools.islice(objects, OBJECTS_TO_RECOGNISE):
        taken.append((place, row))
        if tells(dataset, row, objective):
            break
    return taken


def _empty(index: int, source: DatasetFiles) -> StageError:
    names = ", ".join(file.path for file in source.files[:3])
    return StageError(
        Reason.DATASET_INVALID,
        f"datasets[{index}]: {names}: the dataset is empty",
        f"Put rows into the file, or remove datasets[{index}].",
    )

"""The good rows of all datasets, kept on disk so that memory stays bounded."""

import bisect
import itertools
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from lorafinetune_stages.prepare.conversation import Conversation, Packed
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.fingerprints import Fingerprints, Marks
from lorafinetune_stages.prepare.formats import FormatName
from lorafinetune_stages.prepare.rowfile import Load, RowFile


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

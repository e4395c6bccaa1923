"""Reads all datasets into one corpus: good rows in their order, and of bad ones what is wrong."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.cleaning import Cleaner
from lorafinetune_stages.prepare.column_names import check_there
from lorafinetune_stages.prepare.converter import Converter
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.findings import Findings, Place, Row, RowError
from lorafinetune_stages.prepare.format_detection import find_reader
from lorafinetune_stages.prepare.formats import FORMATS, Reader, table_columns, tells
from lorafinetune_stages.prepare.inputs import DatasetFiles
from lorafinetune_stages.prepare.row_reader import GoodRows, read_quickly, read_rows
from lorafinetune_stages.prepare.texts import Texts
from lorafinetune_stages.store import Advance, ignore_progress

if TYPE_CHECKING:
    from lorafinetune_stages.prepare.fast_path import FastPath

log = logging.getLogger("lorafinetune")

OBJECTS_TO_RECOGNISE: Final = 20
ANY_READER: Final = Reader("alpaca", FORMATS["alpaca"].columns, recognised=False)
"""For a file in which no row is an object: it is bad in every format."""


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
        converter = self._converter(reader, cleaner)
        fast_path = self._fast_path(reader, cleaner, dataset, path, name)
        for found in read_quickly(path, name, self.advance, columns, fast_path):
            if isinstance(found, GoodRows):
                self._take(index, found, dataset.max_samples)
            else:
                self._take_one(index, *found, converter)
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
            converter = self._converter(reader, cleaner)
            rows = converter.used(self._rows(index, source), source.dataset.max_samples)
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

    def _converter(self, reader: Reader, cleaner: Cleaner) -> Converter:
        return Converter(reader, cleaner, self.texts, self.objective)

    def _fast_path(
        self, reader: Reader, cleaner: Cleaner, dataset: Dataset, path: Path, name: str
    ) -> "FastPath | None":
        """The short way into the corpus, where the rows need nothing that it does not do."""
        pack = None if cleaner.changes else reader.packer()
        if pack is None:
            return None
        from lorafinetune_stages.prepare.fast_path import FastPath  # with numpy, which most files need not

        return FastPath(pack, dataset.system, self.texts.may_refuse, path, name)

    def _take(self, index: int, taken: GoodRows, limit: int | None) -> None:
        """Good rows, up to the limit."""
        count = len(taken.marks.rows)
        room = count if limit is None else min(count, limit - self.corpus.counts[index])
        self.findings.count_rows(index, room)
        if room == count:
            self.corpus.extend(taken.marks, taken.stretch.size, taken.load)
        else:
            for row in taken.load()[:room]:
                self.corpus.append_packed(row)

    def _take_one(self, index: int, place: Place, row: Any, converter: Converter) -> None:
        self.findings.count_rows(index, 1)
        try:
            conversation = converter.convert(row)
        except RowError as problem:
            self.findings.add(index, str(place), problem)
            return
        if system := self.findings.datasets[index].system:
            conversation = replace(conversation, system=system)
        self.corpus.append(place, conversation)

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

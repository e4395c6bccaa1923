"""Rows into the dataset that LLaMA-Factory loads through `tokenized_path`, byte for byte repeatable.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value, disable_progress_bars
from datasets.table import InMemoryTable

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.cutting import lost_answer_tokens
from lorafinetune_stages.prepare.findings import Findings
from lorafinetune_stages.prepare.labelling import Rows
from lorafinetune_stages.prepare.report import SplitSummary
from lorafinetune_stages.prepare.tokenising import Tokeniser
from lorafinetune_stages.store import Advance

BATCH_ROWS: Final = 512
BATCH_CHARACTERS: Final = 2**17
"""A batch ends with the row that reaches either: they bound the memory."""
PROVEN_ROWS: Final = 8
ONLY_SHARD: Final = "data-00000-of-00001.arrow"
"""By datasets' own name."""

FEATURES: Final = Features(
    {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "labels": List(Value("int32")),
    }
)


@dataclass
class _Batch:
    """Rows that are encoded at once. numbers, places: of the rows in the corpus, and in their files."""

    numbers: list[int]
    places: list[str]
    conversations: list[Conversation]
    characters: int = 0

    @property
    def full(self) -> bool:
        return len(self.numbers) >= BATCH_ROWS or self.characters >= BATCH_CHARACTERS

    def add(self, number: int, place: str, conversation: Conversation) -> None:
        self.numbers.append(number)
        self.places.append(place)
        self.conversations.append(conversation)
        self.characters += sum([len(turn.content) for turn in conversation.turns])


@dataclass(frozen=True)
class Builder:
    """root: scratch directory. advance: gets rows."""

    corpus: Corpus
    tokeniser: Tokeniser
    findings: Findings
    root: Path
    advance: Advance

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        """Tokenises rows into `root/NAME.arrow`; a row that the cutoff spoils is bad, and left out."""
        self._prove(rows)
        summary = SplitSummary()
        schema = FEATURES.arrow_schema
        with pa.OSFile(str(self._path(name)), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch, encoded in self._encode(rows):
                good = self._judge(batch, encoded)
                self._count(summary, batch, encoded, good)
                table = _record_batch(encoded, schema)
                writer.write_batch(table if good.all() else table.filter(pa.array(good)))
                self.advance(len(batch.numbers))
        return summary

    def save(self, names: Sequence[str], directory: Path, fingerprint: str) -> None:
        """Makes one dataset of the splits. fingerprint: takes the place of datasets' random one.

        datasets would copy what it is given, and map all of it into memory: so it gets a dataset without
        rows, and the file with the rows then takes the place of the empty one.
        """
        disable_progress_bars()
        empty = InMemoryTable(FEATURES.arrow_schema.empty_table())
        splits = {name: Dataset(empty, fingerprint=fingerprint) for name in names}
        DatasetDict(splits).save_to_disk(directory, num_shards=dict.fromkeys(names, 1))
        for name in names:
            self._path(name).replace(directory / name / ONLY_SHARD)

    def _prove(self, rows: Sequence[int]) -> None:
        """Holds a few rows from all over against LLaMA-Factory's own encoding."""
        some = rows[:: max(1, len(rows) // PROVEN_ROWS)][:PROVEN_ROWS]
        if some:
            self.tokeniser.prove([conversation for _, conversation in self.corpus.read(some)])

    def _encode(self, rows: Sequence[int]) -> Iterator[tuple[_Batch, Rows]]:
        taken: list[_Batch] = []

        def conversations() -> Iterator[Sequence[Conversation]]:
            for batch in self._batches(rows):
                taken.append(batch)
                yield batch.conversations

        for encoded in self.tokeniser.encode_all(conversations()):
            yield taken.pop(0), encoded

    def _batches(self, rows: Sequence[int]) -> Iterator[_Batch]:
        batch = _Batch([], [], [])
        for number, (place, conversation) in zip(rows, self.corpus.read(rows), strict=True):
            batch.add(number, place, conversation)
            if batch.full:
                yield batch
                batch = _Batch([], [], [])
        if batch.numbers:
            yield batch

    def _judge(self, batch: _Batch, encoded: Rows) -> Any:
        """Whether a row is good, by row."""
        good = np.ones(len(batch.numbers), bool)
        for index, problem in self.tokeniser.spoilt(encoded).items():
            good[index] = False
            self.findings.add(self.corpus.dataset_of(batch.numbers[index]), batch.places[index], problem)
        return good

    def _count(self, summary: SplitSummary, batch: _Batch, encoded: Rows, good: Any) -> None:
        sizes = np.diff(encoded.ends, prepend=0)
        whole = np.array(encoded.whole, np.int64)[good]
        summary.tokens += int(sizes[good].sum())
        summary.learned_tokens += int(self.tokeniser.learned(encoded)[good].sum())
        summary.truncated += int((whole > sizes[good]).sum())
        summary.answer_tokens += int(np.array(encoded.answers, np.int64)[good].sum())
        summary.lost_tokens += sum(
            lost_answer_tokens(cut.turns, cut.kept) for index, cut in encoded.cuts.items() if good[index]
        )
        summary.lengths.frombytes(whole.tobytes())
        datasets = np.searchsorted(np.cumsum(self.corpus.counts), batch.numbers, side="right")[good]
        summary.rows_by_dataset.update(datasets.tolist())
        with_system = np.array([bool(conversation.system) for conversation in batch.conversations])
        summary.without_system += int((good & ~with_system).sum())

    def _path(self, name: str) -> Path:
        return self.root / f"{name}.arrow"


def _record_batch(rows: Rows, schema: Any) -> Any:
    ends = pa.array(np.append(0, rows.ends).astype(np.int32))
    ones = np.ones(len(rows.tokens), np.int8)
    columns = [
        pa.ListArray.from_arrays(ends, pa.array(values)) for values in (rows.tokens, ones, rows.labels)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)

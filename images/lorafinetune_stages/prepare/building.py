"""Conversations into the dataset that LLaMA-Factory loads through `tokenized_path`.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.conversation import Conversation, Packed, uses_tools
from lorafinetune_stages.prepare.cutting import lost_answer_tokens
from lorafinetune_stages.prepare.labelling import Rows
from lorafinetune_stages.prepare.report import Pieces, SplitSummary
from lorafinetune_stages.prepare.splits import Splits, sequences, writer
from lorafinetune_stages.prepare.tokenising import Tokeniser, segments
from lorafinetune_stages.prepare.writing import can_write, check_tools

BATCH_ROWS: Final = 512
BATCH_CHARACTERS: Final = 2**17
"""A batch ends with the row that reaches either: they bound the memory."""
PROVEN_ROWS: Final = 8

FEATURES: Final = Features(
    {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "labels": List(Value("int32")),
    }
)


@dataclass(frozen=True)
class _Batch:
    """Rows that are encoded at once. numbers: theirs in the corpus."""

    numbers: Sequence[int]
    rows: Sequence[Packed]


@dataclass(frozen=True)
class Builder(Splits):
    """Builds of conversations."""

    features: ClassVar[Features] = FEATURES

    tokeniser: Tokeniser

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        self._prove(rows)
        summary = SplitSummary()
        with writer(self.path(name), FEATURES) as written:
            for batch, encoded in self._encode(rows):
                good = self._judge(batch, encoded)
                self._count(summary, batch, encoded, good)
                columns = sequences(encoded.tokens, encoded.labels, encoded.ends)
                table = pa.RecordBatch.from_arrays(columns, schema=FEATURES.arrow_schema)
                written.write_batch(table if good.all() else table.filter(pa.array(good)))
                self.advance(len(batch.numbers))
        return summary

    def samples(self, rows: Sequence[int]) -> list[Pieces]:
        encoded = self.tokeniser.encode(self._writable(rows))
        return [segments(row, self.tokeniser.tokenizer) for row in encoded]

    def _prove(self, rows: Sequence[int]) -> None:
        """Holds a few rows from all over against LLaMA-Factory's own encoding."""
        if some := self._writable(rows[:: max(1, len(rows) // PROVEN_ROWS)][:PROVEN_ROWS]):
            self.tokeniser.prove(some)

    def _writable(self, rows: Sequence[int]) -> list[Conversation]:
        """Those of a few rows that the template can write."""
        return [row for _, row in self.corpus.read(rows) if can_write(self.tokeniser.template, row)]

    def _encode(self, rows: Sequence[int]) -> Iterator[tuple[_Batch, Rows]]:
        taken: list[_Batch] = []

        def packed() -> Iterator[Sequence[Packed]]:
            for batch in self._batches(rows):
                taken.append(batch)
                yield batch.rows

        for encoded in self.tokeniser.encode_all(packed()):
            yield taken.pop(0), encoded

    def _batches(self, rows: Sequence[int]) -> Iterator[_Batch]:
        numbers: list[int] = []
        taken: list[Packed] = []
        room = BATCH_CHARACTERS
        for number, row in zip(rows, self.corpus.read_packed(rows), strict=True):
            if uses_tools(row) and not self._can_write(number, row):
                self.advance(1)
                continue
            numbers.append(number)
            taken.append(row)
            room -= sum(map(len, row))
            if room <= 0 or len(taken) == BATCH_ROWS:
                yield _Batch(numbers, taken)
                numbers, taken, room = [], [], BATCH_CHARACTERS
        if taken:
            yield _Batch(numbers, taken)

    def _can_write(self, number: int, row: Packed) -> bool:
        """Whether the template can write the row's tools."""
        place, conversation = Conversation.unpack(row)
        return self.accepts(number, place, check_tools, self.tokeniser.template, conversation)

    def _judge(self, batch: _Batch, encoded: Rows) -> Any:
        """Whether a row is good, by row."""
        good = np.ones(len(batch.numbers), bool)
        for index, problem in self.tokeniser.spoilt(encoded).items():
            good[index] = False
            self.findings.add(self.corpus.dataset_of(batch.numbers[index]), batch.rows[index][0], problem)
        return good

    def _count(self, summary: SplitSummary, batch: _Batch, encoded: Rows, good: Any) -> None:
        sizes = np.diff(encoded.ends, prepend=0)
        whole = np.array(encoded.whole, np.int64)[good]
        summary.tokens += int(sizes[good].sum())
        labels = encoded.labels if good.all() else encoded.labels[np.repeat(good, sizes)]
        summary.learned_tokens += int(np.count_nonzero(labels != IGNORE_INDEX))
        summary.truncated += int((whole > sizes[good]).sum())
        summary.answer_tokens += int(np.array(encoded.answers, np.int64)[good].sum())
        summary.lost_tokens += sum(
            lost_answer_tokens(cut.turns, cut.kept) for index, cut in encoded.cuts.items() if good[index]
        )
        summary.lengths.frombytes(whole.tobytes())
        datasets = np.searchsorted(np.cumsum(self.corpus.counts), batch.numbers, side="right")[good]
        summary.rows_by_dataset.update(datasets.tolist())
        with_system = np.array([system != "" for _, system, *_ in batch.rows])
        summary.without_system += int((good & ~with_system).sum())
        with_tools = np.array([tools != "" for _, _, tools, *_ in batch.rows])
        summary.with_tools += int((good & with_tools).sum())

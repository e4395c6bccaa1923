"""Conversations into the dataset that LLaMA-Factory loads through `tokenized_path`.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.batches import batches
from lorafinetune_stages.prepare.conversation import Conversation, Packed, uses_tools
from lorafinetune_stages.prepare.cutting import lost_answer_tokens
from lorafinetune_stages.prepare.findings import RowError
from lorafinetune_stages.prepare.labelling import Rows
from lorafinetune_stages.prepare.report import Pieces, SplitSummary
from lorafinetune_stages.prepare.splits import Splits, sequences, writer
from lorafinetune_stages.prepare.tokenising import Tokeniser, segments
from lorafinetune_stages.prepare.workers import in_order
from lorafinetune_stages.prepare.writing import can_write, check_tools

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
    """Rows that were encoded at once. numbers: theirs in the corpus. places, with_system, with_tools: by row.
    bad: number, place and fault of those that are left out, because the template can't write them."""

    numbers: Sequence[int]
    places: Sequence[str]
    with_system: Any
    with_tools: Any
    encoded: Rows
    bad: Sequence[tuple[int, str, RowError]]


@dataclass(frozen=True)
class Builder(Splits):
    """Builds of conversations."""

    features: ClassVar[Features] = FEATURES

    tokeniser: Tokeniser

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        self._prove(rows)
        summary = SplitSummary()
        with writer(self.path(name), FEATURES) as written:
            self.corpus.settle()
            parts = batches(rows, self.corpus.sizes, self.corpus.lasts())
            for batch in in_order(self._encode, parts):
                good = self._judge(batch)
                self._count(summary, batch, good)
                columns = sequences(batch.encoded.tokens, batch.encoded.labels, batch.encoded.ends)
                table = pa.RecordBatch.from_arrays(columns, schema=FEATURES.arrow_schema)
                written.write_batch(table if good.all() else table.filter(pa.array(good)))
                self.advance(len(batch.numbers) + len(batch.bad))
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

    def _encode(self, numbers: Sequence[int]) -> _Batch:
        taken, rows, bad = [], [], []
        for number, row in zip(numbers, self.corpus.read_packed(numbers), strict=True):
            if problem := self._fault(row):
                bad.append((number, row[0], problem))
            else:
                taken.append(number)
                rows.append(row)
        return _Batch(
            taken,
            [place for place, *_ in rows],
            np.array([system != "" for _, system, *_ in rows], bool),
            np.array([tools != "" for _, _, tools, *_ in rows], bool),
            self.tokeniser.encode_packed(rows),
            bad,
        )

    def _fault(self, row: Packed) -> RowError | None:
        """Why the template can't write the row."""
        try:
            if uses_tools(row):
                check_tools(self.tokeniser.template, Conversation.unpack(row)[1])
        except RowError as problem:
            return problem
        return None

    def _judge(self, batch: _Batch) -> Any:
        """Whether a row is good, by row."""
        for number, place, problem in batch.bad:
            self.findings.add(self.corpus.dataset_of(number), place, problem)
        good = np.ones(len(batch.numbers), bool)
        for index, problem in self.tokeniser.spoilt(batch.encoded).items():
            good[index] = False
            self.findings.add(self.corpus.dataset_of(batch.numbers[index]), batch.places[index], problem)
        return good

    def _count(self, summary: SplitSummary, batch: _Batch, good: Any) -> None:
        encoded = batch.encoded
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
        summary.without_system += int((good & ~batch.with_system).sum())
        summary.with_tools += int((good & batch.with_tools).sum())

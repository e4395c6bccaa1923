"""Conversations into the dataset that LLaMA-Factory loads through `tokenized_path`.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.batches import batches
from lorafinetune_stages.prepare.conversation import Conversation, Packed, uses_tools
from lorafinetune_stages.prepare.findings import RowError
from lorafinetune_stages.prepare.labels import LabelledRows
from lorafinetune_stages.prepare.report import Pieces, SplitSummary
from lorafinetune_stages.prepare.splits import Splits, sequences, writer
from lorafinetune_stages.prepare.tokeniser import Tokeniser, segments
from lorafinetune_stages.prepare.tool_support import can_write, check_tools
from lorafinetune_stages.prepare.truncation import lost_answer_tokens
from lorafinetune_stages.prepare.workers import in_order

PROVEN_ROWS: Final = 8
FEW_BATCHES: Final = 24
"""Encoded in the time in which a process of a gigabyte, which imported LLaMA-Factory, is copied."""

FEATURES: Final = Features(
    {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "labels": List(Value("int32")),
    }
)
SCHEMA: Final = FEATURES.arrow_schema


@dataclass(frozen=True)
class _Batch:
    """Rows that were encoded at once. rows: how many these were. table: the good ones, of which `summary` has
    the numbers. bad: number, dataset, place and fault of the others."""

    rows: int
    table: Any
    summary: SplitSummary
    bad: Sequence[tuple[int, int, str, RowError]]


@dataclass(frozen=True)
class ConversationBuilder(Splits):
    """Builds of conversations."""

    features: ClassVar[Features] = FEATURES

    tokeniser: Tokeniser

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        self._prove(rows)
        summary = SplitSummary()
        with writer(self.path(name), FEATURES) as written:
            self.corpus.settle()
            parts = batches(rows, self.corpus.sizes, self.corpus.lasts())
            for batch in in_order(self._encode, parts, FEW_BATCHES):
                for bad in batch.bad:
                    self.findings.leave_out(*bad)
                summary.add(batch.summary)
                written.write_batch(batch.table)
                self.advance(batch.rows)
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
            if uses_tools(row) and (problem := self._fault(row)):
                bad.append((number, row, problem))
            else:
                taken.append(number)
                rows.append(row)
        encoded = self.tokeniser.encode_packed(rows)
        spoilt = self.tokeniser.spoilt(encoded)
        bad += [(taken[at], rows[at], problem) for at, problem in spoilt.items()]
        good = np.ones(len(rows), bool)
        good[[*spoilt]] = False
        return _Batch(
            rows=len(numbers),
            table=_table(encoded, good),
            summary=self._summary(taken, rows, encoded, good),
            bad=[(number, self.corpus.dataset_of(number), row[0], problem) for number, row, problem in bad],
        )

    def _fault(self, row: Packed) -> RowError | None:
        """Why the template can't write the row."""
        try:
            check_tools(self.tokeniser.template, Conversation.unpack(row)[1])
        except RowError as problem:
            return problem
        return None

    def _summary(
        self, numbers: Sequence[int], rows: Sequence[Packed], encoded: LabelledRows, good: Any
    ) -> SplitSummary:
        sizes = np.diff(encoded.ends, prepend=0)
        whole = np.array(encoded.whole, np.int64)[good]
        labels = encoded.labels if good.all() else encoded.labels[np.repeat(good, sizes)]
        datasets = np.searchsorted(np.cumsum(self.corpus.counts), numbers, side="right")[good]
        has_system = np.array([row[1] != "" for row in rows], bool)
        has_tools = np.array([row[2] != "" for row in rows], bool)
        return SplitSummary(
            rows_by_dataset=Counter(datasets.tolist()),
            tokens=int(sizes[good].sum()),
            learned_tokens=int(np.count_nonzero(labels != IGNORE_INDEX)),
            truncated=int((whole > sizes[good]).sum()),
            answer_tokens=int(np.array(encoded.answers, np.int64)[good].sum()),
            lost_tokens=sum(
                lost_answer_tokens(cut.turns, cut.kept) for at, cut in encoded.cuts.items() if good[at]
            ),
            without_system=int((good & ~has_system).sum()),
            with_tools=int((good & has_tools).sum()),
            lengths=array("Q", whole.tobytes()),
        )


def _table(encoded: LabelledRows, good: Any) -> Any:
    """The columns of the good rows."""
    columns = sequences(encoded.tokens, encoded.labels, encoded.ends)
    table = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return table if good.all() else table.filter(pa.array(good))

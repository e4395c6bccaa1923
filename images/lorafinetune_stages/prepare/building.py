"""Rows into the dataset that LLaMA-Factory loads through `tokenized_path`, byte for byte repeatable.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value, disable_progress_bars
from datasets.table import MemoryMappedTable

from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.corpus import Corpus
from lorafinetune_stages.prepare.cutting import lost_answer_tokens
from lorafinetune_stages.prepare.findings import Findings, RowError
from lorafinetune_stages.prepare.report import SplitSummary
from lorafinetune_stages.prepare.tokenising import Encoded, Tokeniser
from lorafinetune_stages.store import Advance

TRAIN: Final = "train"
HELD_OUT: Final = "validation"
"""Names of the splits, as LLaMA-Factory looks for them."""
BATCH_ROWS: Final = 64

FEATURES: Final = Features(
    {
        "input_ids": List(Value("int32")),
        "attention_mask": List(Value("int8")),
        "labels": List(Value("int32")),
    }
)


@dataclass(frozen=True)
class Builder:
    """root: scratch directory. advance: gets rows."""

    corpus: Corpus
    tokeniser: Tokeniser
    findings: Findings
    root: Path
    advance: Advance

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        """Tokenises rows into `root/NAME.arrow`; a row of which no answer is left is bad, and left out."""
        summary = SplitSummary()
        schema = FEATURES.arrow_schema
        with pa.OSFile(str(self._path(name)), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for numbers in _batches(rows):
                kept = list(self._encode(numbers, summary))
                writer.write_batch(_record_batch(kept, schema))
                self.advance(len(numbers))
        return summary

    def save(self, names: Sequence[str], directory: Path, fingerprint: str) -> None:
        """Saves the splits as one dataset. fingerprint: takes the place of datasets' random one."""
        disable_progress_bars()
        splits = {
            name: Dataset(MemoryMappedTable.from_file(str(self._path(name))), fingerprint=fingerprint)
            for name in names
        }
        DatasetDict(splits).save_to_disk(directory)

    def _encode(self, numbers: Sequence[int], summary: SplitSummary) -> Iterator[Encoded]:
        found = list(self.corpus.read(numbers))
        encoded = self.tokeniser.encode([conversation for _, conversation in found])
        for number, (place, conversation), row in zip(numbers, found, encoded, strict=True):
            dataset = self.corpus.dataset_of(number)
            try:
                self.tokeniser.check(row)
            except RowError as problem:
                self.findings.add(dataset, place, problem)
                continue
            _count(summary, dataset, conversation, row)
            yield row

    def _path(self, name: str) -> Path:
        return self.root / f"{name}.arrow"


def _count(summary: SplitSummary, dataset: int, conversation: Conversation, row: Encoded) -> None:
    summary.rows_by_dataset[dataset] += 1
    summary.tokens += len(row.tokens)
    summary.learned_tokens += row.learned
    summary.truncated += row.truncated
    summary.answer_tokens += sum(answer for _, answer in row.turns)
    summary.lost_tokens += lost_answer_tokens(row.turns, row.kept)
    summary.without_system += not conversation.system
    summary.lengths.append(row.whole)


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, BATCH_ROWS)):
        yield batch


def _record_batch(rows: Sequence[Encoded], schema: Any) -> Any:
    columns = {
        "input_ids": [row.tokens for row in rows],
        "attention_mask": [[1] * len(row.tokens) for row in rows],
        "labels": [row.labels for row in rows],
    }
    return pa.RecordBatch.from_pydict(columns, schema=schema)

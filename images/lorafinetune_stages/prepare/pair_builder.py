"""Pairs of answers into the dataset that LLaMA-Factory loads, by its own processor of pairs.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from datasets import Features, List, Value
from llamafactory.data.processor import PairwiseDatasetProcessor
from llamafactory.data.processor.processor_utils import infer_seqlen

from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.reference import MEDIA
from lorafinetune_stages.prepare.report import Pieces, SplitSummary
from lorafinetune_stages.prepare.splits import Splits, writer
from lorafinetune_stages.prepare.tokeniser import Encoded, segments
from lorafinetune_stages.prepare.tool_support import can_write, check_tools
from lorafinetune_stages.prepare.truncation import check_kept

BATCH_ROWS: Final = 64
SIDES: Final = ("chosen", "rejected")
FEATURES: Final = Features(
    {
        **{
            f"{side}_{name}": List(Value(kind))
            for side in SIDES
            for name, kind in (("input_ids", "int32"), ("attention_mask", "int8"), ("labels", "int32"))
        },
        **{name.removeprefix("_"): Value("null") for name in MEDIA},
    }
)
"""LLaMA-Factory's collator of pairs asks for the columns of images and sound, too."""

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class PairLengths:
    """Tokens of a pair before anything is cut off."""

    prompt: int
    chosen: int
    rejected: int

    @property
    def answer(self) -> int:
        """Of the longer answer, by which both are cut."""
        return max(self.chosen, self.rejected)

    @property
    def row(self) -> int:
        return self.prompt + self.answer


class PairTokeniser:
    """template: LLaMA-Factory's."""

    def __init__(self, template: Any, tokenizer: Any, processor: Any, data_args: Any) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self._cutoff: int = data_args.cutoff_len
        self._ending = 1 if template.efficient_eos else 0
        self._lengths: list[tuple[int, int]] = []
        self._encode_turn = template.encode_oneturn
        noting = copy.copy(template)
        noting.encode_oneturn = self._note_turn
        self._processor = PairwiseDatasetProcessor(
            template=noting, tokenizer=tokenizer, processor=processor, data_args=data_args
        )

    def encode(self, pairs: Sequence[Conversation]) -> tuple[Columns, list[PairLengths]]:
        """The columns that LLaMA-Factory makes, and how long every pair was."""
        self._lengths.clear()
        columns = self._processor.preprocess_dataset(_aligned(pairs))
        sides = zip(self._lengths[::2], self._lengths[1::2], strict=True)
        return columns, [PairLengths(prompt, chosen, rejected) for (prompt, chosen), (_, rejected) in sides]

    def check(self, whole: PairLengths) -> None:
        """Raises RowError for a pair that is cut: of an answer without its end nothing is preferred."""
        kept = infer_seqlen(whole.prompt, whole.answer, self._cutoff)
        check_kept((whole.prompt, whole.answer), kept, whole.row, self._cutoff)

    def _note_turn(self, *arguments: Any) -> Any:
        """LLaMA-Factory cuts without a word: the lengths are noted before it does."""
        prompt, answer = self._encode_turn(*arguments)
        self._lengths.append((len(prompt), len(answer) + self._ending))
        return prompt, answer


@dataclass(frozen=True)
class PairBuilder(Splits):
    """Builds of pairs."""

    features: ClassVar[Features] = FEATURES

    tokeniser: PairTokeniser

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        summary = SplitSummary()
        with writer(self.path(name), FEATURES) as written:
            for start in range(0, len(rows), BATCH_ROWS):
                numbers = rows[start : start + BATCH_ROWS]
                found = [*self._writable(numbers)]
                columns, wholes = self.tokeniser.encode([pair for _, _, pair in found])
                good = []
                for index, ((number, place, pair), whole) in enumerate(zip(found, wholes, strict=True)):
                    if self.accepts(number, place, self.tokeniser.check, whole):
                        good.append(index)
                        self._count(summary, number, pair, whole)
                written.write_batch(_record_batch(columns, good))
                self.advance(len(numbers))
        return summary

    def samples(self, rows: Sequence[int]) -> list[Pieces]:
        """Each pair twice: with the answer that is chosen, and with the other one."""
        pairs = [pair for _, pair in self.corpus.read(rows) if can_write(self.tokeniser.template, pair)]
        columns, _ = self.tokeniser.encode(pairs)
        return [
            segments(_encoded(columns, side, index), self.tokeniser.tokenizer)
            for index in range(len(pairs))
            for side in SIDES
        ]

    def _writable(self, rows: Sequence[int]) -> Iterator[tuple[int, str, Conversation]]:
        """Number, place and conversation of the rows that the template can write."""
        for number, (place, pair) in zip(rows, self.corpus.read(rows), strict=True):
            if self.accepts(number, place, check_tools, self.tokeniser.template, pair):
                yield number, place, pair

    def _count(self, summary: SplitSummary, number: int, pair: Conversation, whole: PairLengths) -> None:
        """A good pair is never cut."""
        answers = whole.chosen + whole.rejected
        summary.rows_by_dataset[self.corpus.dataset_of(number)] += 1
        summary.tokens += 2 * whole.prompt + answers
        summary.learned_tokens += answers
        summary.answer_tokens += answers
        summary.without_system += not pair.system
        summary.with_tools += bool(pair.tools)
        summary.lengths.append(whole.row)


def _aligned(pairs: Sequence[Conversation]) -> dict[str, list[Any]]:
    """The columns into which LLaMA-Factory's converters bring every pair."""
    return {
        "_prompt": [list(_messages(pair.turns[:-2])) for pair in pairs],
        "_response": [list(_messages(pair.turns[-2:])) for pair in pairs],
        "_system": [pair.system for pair in pairs],
        "_tools": [pair.tools for pair in pairs],
        **{column: [None] * len(pairs) for column in MEDIA},
    }


def _messages(turns: Sequence[Turn]) -> Iterator[dict[str, str]]:
    return ({"role": turn.role, "content": turn.content} for turn in turns)


def _record_batch(columns: Columns, good: Sequence[int]) -> Any:
    """Of the good rows."""
    arrays = [
        pa.array([columns[field.name][index] for index in good], field.type)
        for field in FEATURES.arrow_schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=FEATURES.arrow_schema)


def _encoded(columns: Columns, side: str, index: int) -> Encoded:
    tokens, labels = (
        np.array(columns[f"{side}_{name}"][index], np.int32) for name in ("input_ids", "labels")
    )
    return Encoded(tokens, labels)

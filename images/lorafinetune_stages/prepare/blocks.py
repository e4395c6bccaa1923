"""Plain texts into rows of one length, by LLaMA-Factory's rule: the texts of a group one after another, each
with the token that ends a text, cut into rows of `cutoff_len`; what is left at the end of a group is dropped.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from datasets import Features
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.conversation_builder import FEATURES, PROVEN_ROWS
from lorafinetune_stages.prepare.piece_encoder import PieceEncoder
from lorafinetune_stages.prepare.report import Pieces, SplitSummary
from lorafinetune_stages.prepare.splits import Splits, sequences, writer
from lorafinetune_stages.prepare.tokeniser import Encoded, segments

log = logging.getLogger("lorafinetune")

BATCH_CHARACTERS: Final = 2**20
"""Texts are encoded together up to the one that reaches this: it bounds the memory."""
LLAMA3: Final = ("llama3", "<|end_of_text|>")
"""The one template that changes the end of a text: that of a conversation is another token there."""
PROBES: Final = ("q", "I'm  12345?\n\n", " 你好🐳 é\r\n", "ends in a space ", "\n\n\n")
"""Texts on which both ways are tried before any other."""


class TextTokeniser:
    """tokenizer: of transformers, as LLaMA-Factory's template has left it."""

    def __init__(self, tokenizer: Any, data_args: Any) -> None:
        self.tokenizer = tokenizer
        self.length: int = data_args.cutoff_len
        self.group: int = data_args.preprocessing_batch_size
        self._end: str = LLAMA3[1] if data_args.template == LLAMA3[0] else tokenizer.eos_token
        self._first = tokenizer.bos_token_id if getattr(tokenizer, "add_bos_token", False) else None
        self._encoder = self._find_encoder()
        self.prove(PROBES)

    @property
    def is_fast(self) -> bool:
        """Whether the tokenizer's own encoding is not needed."""
        return self._encoder is not None

    @property
    def ends_are_learned(self) -> bool:
        return bool(self.tokenizer.convert_tokens_to_ids(self._end) != self.tokenizer.pad_token_id)

    def prove(self, texts: Sequence[str]) -> None:
        """Encodes these both ways. Where they differ, the tokenizer's own is used from then on."""
        if self._encoder and texts and not np.array_equal(self.encode(texts)[0], self._reference(texts)[0]):
            log.warning("these tokens are not LLaMA-Factory's, so its own encoding is used: it is slower")
            self._encoder = None

    def encode(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """The tokens of all texts in a row, each with its end, as int32, and how many each text has."""
        if self._encoder is None:
            return self._reference(texts)
        end: int = self.tokenizer.convert_tokens_to_ids(self._end)
        arena = self._encoder.encode([piece for text in texts for piece in (text, end)])
        return arena.tokens, arena.sizes.reshape(-1, 2).sum(axis=1)

    def blocks(self, stream: Any) -> tuple[Any, Any]:
        """Tokens and labels of a stream that is so many rows long: what the trainer's collator would make."""
        tokens = stream.copy()
        if self._first is not None:
            tokens[:: self.length] = self._first
        return tokens, np.where(tokens == self.tokenizer.pad_token_id, np.int32(IGNORE_INDEX), tokens)

    def _reference(self, texts: Sequence[str]) -> tuple[Any, Any]:
        rows = self.tokenizer([text + self._end for text in texts], add_special_tokens=False)["input_ids"]
        tokens = np.array([token for row in rows for token in row], np.int32)
        return tokens, np.array([len(row) for row in rows], np.int64)

    def _find_encoder(self) -> PieceEncoder | None:
        """None where the tokenizer is not a fast one, or knows no token for the end."""
        known = isinstance(self.tokenizer.convert_tokens_to_ids(self._end), int)
        return (
            PieceEncoder(self.tokenizer) if known and hasattr(self.tokenizer, "backend_tokenizer") else None
        )


@dataclass(frozen=True)
class BlockBuilder(Splits):
    """Builds of plain texts."""

    features: ClassVar[Features] = FEATURES

    tokeniser: TextTokeniser

    def write_split(self, name: str, rows: Sequence[int]) -> SplitSummary:
        some = rows[:: max(1, len(rows) // PROVEN_ROWS)][:PROVEN_ROWS]
        self.tokeniser.prove([*self._texts(some)])
        summary = SplitSummary(blocks=0)
        group = self.tokeniser.group
        with writer(self.path(name), FEATURES) as written:
            for start in range(0, len(rows), group):
                self._write_group(rows[start : start + group], summary, written)
        return summary

    def samples(self, rows: Sequence[int]) -> list[Pieces]:
        found: list[Pieces] = []
        for text in self._texts(rows):
            tokens, _ = self.tokeniser.encode([text])
            _, labels = self.tokeniser.blocks(tokens)
            found.append(segments(Encoded(tokens, labels), self.tokeniser.tokenizer))
        return found

    def warnings(self) -> Iterator[str]:
        if not self.tokeniser.ends_are_learned:
            yield (
                "where a text ends is not learned: the tokenizer pads with the same token, and LLaMA-Factory "
                "learns no padding"
            )

    def _write_group(self, rows: Sequence[int], summary: SplitSummary, written: Any) -> None:
        left = np.empty(0, np.int32)
        for numbers, texts in self._batches(rows):
            tokens, sizes = self.tokeniser.encode(texts)
            stream = np.concatenate([left, tokens])
            whole = len(stream) // self.tokeniser.length * self.tokeniser.length
            self._write_blocks(stream[:whole], summary, written)
            left = stream[whole:]
            summary.lengths.frombytes(sizes.tobytes())
            summary.rows_by_dataset.update(map(self.corpus.dataset_of, numbers))
            self.advance(len(numbers))
        summary.left_tokens += len(left)

    def _write_blocks(self, stream: Any, summary: SplitSummary, written: Any) -> None:
        if not len(stream):
            return
        tokens, labels = self.tokeniser.blocks(stream)
        ends = np.arange(self.tokeniser.length, len(tokens) + 1, self.tokeniser.length)
        columns = sequences(tokens, labels, ends)
        written.write_batch(pa.RecordBatch.from_arrays(columns, schema=FEATURES.arrow_schema))
        summary.blocks = (summary.blocks or 0) + len(ends)
        summary.tokens += len(tokens)
        summary.learned_tokens += int((labels != IGNORE_INDEX).sum())

    def _batches(self, rows: Sequence[int]) -> Iterator[tuple[list[int], list[str]]]:
        numbers: list[int] = []
        texts: list[str] = []
        characters = 0
        for number, text in zip(rows, self._texts(rows), strict=True):
            numbers.append(number)
            texts.append(text)
            characters += len(text)
            if characters >= BATCH_CHARACTERS:
                yield numbers, texts
                numbers, texts, characters = [], [], 0
        if numbers:
            yield numbers, texts

    def _texts(self, rows: Sequence[int]) -> Iterator[str]:
        return (row.turns[0].content for _, row in self.corpus.read(rows))

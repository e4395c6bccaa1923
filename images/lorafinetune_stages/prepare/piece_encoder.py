"""The pieces of many rows into tokens at once: what repeats, like a system prompt or a short answer, is
encoded once and remembered for a while, as the tokenizer itself does word by word.
"""

import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lorafinetune_stages.prepare.bytepairs import BytePairs, find_byte_pairs
from lorafinetune_stages.prepare.rendering import Piece
from lorafinetune_stages.prepare.workers import spare_processors

log = logging.getLogger("lorafinetune")


@dataclass(frozen=True)
class Arena:
    """Tokens of pieces, one piece after another, as int32. starts, sizes: by the number of the piece."""

    tokens: Any
    starts: Any
    sizes: Any


class PieceEncoder:
    """Encodes as the tokenizer does without special tokens around a text.

    tokenizer: a fast one of transformers. ROOM_TOKENS bounds the memory. LEAST_SHARED: texts that are worth
    more than one thread.
    """

    ROOM_TOKENS: Final = 2**19
    LEAST_SHARED: Final = 64

    def __init__(self, tokenizer: Any) -> None:
        self._forget()
        self._exact = tokenizer.backend_tokenizer
        self._exact.no_truncation()
        self._exact.no_padding()
        self._fast = find_byte_pairs(tokenizer)
        self._threads = ThreadPoolExecutor()
        if self._fast is None:
            log.info("tiktoken is not shown to equal the tokenizer, whose own encoding is used: it is slower")

    @property
    def added(self) -> re.Pattern[str] | None:
        """Finds the tokens at which any text is split, where they are known."""
        return self._fast.added if self._fast else None

    def recall(self, pieces: Sequence[Piece]) -> Arena:
        """The tokens of all pieces, among those of others: what was encoded before is not encoded again."""
        if len(self._known.tokens) > self.ROOM_TOKENS:
            self._forget()
        if new := [piece for piece in dict.fromkeys(pieces) if piece not in self._numbers]:
            self._learn(new)
        numbers = np.fromiter(map(self._numbers.__getitem__, pieces), np.int64, len(pieces))
        return Arena(self._known.tokens, self._known.starts[numbers], self._known.sizes[numbers])

    def _forget(self) -> None:
        self._numbers: dict[Piece, int] = {}
        self._known = Arena(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))

    def _learn(self, pieces: Sequence[Piece]) -> None:
        known, new = self._known, self.encode(pieces)
        self._numbers |= zip(pieces, range(len(known.sizes), len(known.sizes) + len(pieces)), strict=True)
        self._known = Arena(
            np.concatenate([known.tokens, new.tokens]),
            np.concatenate([known.starts, new.starts + len(known.tokens)]),
            np.concatenate([known.sizes, new.sizes]),
        )

    def encode(self, pieces: Sequence[Piece]) -> Arena:
        """The tokens of all pieces and no others, in their order."""
        texts = [piece for piece in pieces if isinstance(piece, str)]
        tokens, sizes_of_texts = self._encode_texts(texts)
        if len(texts) == len(pieces):
            return _arena(tokens, sizes_of_texts)
        single = np.array([isinstance(piece, int) for piece in pieces])
        sizes = np.ones(len(pieces), np.int64)
        sizes[~single] = sizes_of_texts
        at = (np.cumsum(sizes) - sizes)[single] - np.arange(single.sum())
        return _arena(np.insert(tokens, at, [piece for piece in pieces if isinstance(piece, int)]), sizes)

    def _encode_texts(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """All tokens in a row, and how many each text has."""
        fast = self._fast
        if fast is None:
            return self._encode_exactly(texts)
        if fast.covers("\n".join(texts)):
            return self._encode_covered(texts, fast)
        return self._encode_some(texts, fast)

    def _encode_covered(self, texts: Sequence[str], fast: BytePairs) -> tuple[Any, Any]:
        """As above, by as many threads as have a processor."""
        count = spare_processors()
        if count == 1 or len(texts) < self.LEAST_SHARED:
            return fast.encode(texts)
        size = -(-len(texts) // count)
        shares = [texts[start : start + size] for start in range(0, len(texts), size)]
        tokens, sizes = zip(*self._threads.map(fast.encode, shares), strict=True)
        return np.concatenate(tokens), np.concatenate(sizes)

    def _encode_some(self, texts: Sequence[str], fast: BytePairs) -> tuple[Any, Any]:
        """As above, where some texts can't be encoded the fast way."""
        covered = [fast.covers(text) for text in texts]
        tokens, sizes = fast.encode(
            [text for text, is_covered in zip(texts, covered, strict=True) if is_covered]
        )
        found = iter(np.split(tokens, np.cumsum(sizes)[:-1]))
        parts = [
            next(found) if is_covered else self._encode_exactly([text])[0]
            for text, is_covered in zip(texts, covered, strict=True)
        ]
        return np.concatenate(parts), np.array([len(part) for part in parts], np.int64)

    def _encode_exactly(self, texts: Sequence[str]) -> tuple[Any, Any]:
        encodings = self._exact.encode_batch_fast(texts, add_special_tokens=False)
        parts = [np.array(encoding.ids, np.int32) for encoding in encodings]
        tokens = np.concatenate(parts) if parts else np.empty(0, np.int32)
        return tokens, np.array([len(part) for part in parts], np.int64)


def _arena(tokens: Any, sizes: Any) -> Arena:
    return Arena(tokens, np.cumsum(sizes) - sizes, sizes)

"""Conversations into tokens and labels: the very ones that LLaMA-Factory makes, made in another way.

Its own template code says what is written, tiktoken or the tokenizer makes tokens of that, and numpy lays the
rows out. All the same a few rows of every run are compared with LLaMA-Factory's own encoding; where the two
differ, or a template does what can't be followed, its own encoding is used.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import gc
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.conversation import Conversation, Turn
from lorafinetune_stages.prepare.cutting import check_kept
from lorafinetune_stages.prepare.findings import RowError
from lorafinetune_stages.prepare.labelling import Rows, Rules, Turns, arrange
from lorafinetune_stages.prepare.pieces import Arena, PieceEncoder
from lorafinetune_stages.prepare.reference import Reference
from lorafinetune_stages.prepare.shapes import ShapeSpeller, Spelled, is_plain
from lorafinetune_stages.prepare.spelling import Piece, Speller

log = logging.getLogger("lorafinetune")

MAX_THREADS: Final = 8
PROBES: Final = (
    Conversation((Turn("user", "q"), Turn("assistant", "a"))),
    Conversation((Turn("user", "I'm  12345?\n\n"), Turn("assistant", " 你好🐳 é\r\n")) * 2, "Be brief."),
    Conversation((Turn("user", "q " * 1200), Turn("assistant", "r " * 1200)) * 2),
)
"""Rows on which both ways are tried before any other."""

Conversations = Sequence[Conversation]


@dataclass(frozen=True, slots=True)
class Encoded:
    """tokens and labels: of equal length, int32; a token that is not learned has the label IGNORE_INDEX."""

    tokens: Any
    labels: Any


class Tokeniser:
    """template: LLaMA-Factory's."""

    def __init__(self, template: Any, tokenizer: Any, processor: Any, data_args: Any) -> None:
        gc.freeze()  # what was imported is large, stays, and need not be looked through for every batch
        self.template = template
        self.tokenizer = tokenizer
        self._cutoff: int = data_args.cutoff_len
        self._reference = Reference(template, tokenizer, processor, data_args)
        self._fast = _find_fast(template, tokenizer, processor, data_args)
        self.prove(PROBES)

    @property
    def is_fast(self) -> bool:
        """Whether LLaMA-Factory's own encoding is not needed."""
        return self._fast is not None

    def prove(self, conversations: Conversations) -> None:
        """Encodes these both ways. Where they differ, LLaMA-Factory's is used from then on."""
        if self._fast is None:
            return
        (found,) = self._fast.encode([conversations], self._reference)
        if not found.equals(self._reference.encode(conversations)):
            log.warning("these tokens are not LLaMA-Factory's, so its own encoding is used: it is slower")
            self._fast = None

    def encode_all(self, batches: Iterable[Conversations]) -> Iterator[Rows]:
        """The rows of every batch, in order. Batches that follow are taken and encoded meanwhile."""
        if self._fast is None:
            return map(self._reference.encode, batches)
        return self._fast.encode(batches, self._reference)

    def encode(self, conversations: Conversations) -> list[Encoded]:
        """One result for every conversation, in their order."""
        (rows,) = self.encode_all([conversations])
        return [
            Encoded(tokens, labels)
            for tokens, labels in zip(_split(rows.tokens, rows), _split(rows.labels, rows), strict=True)
        ]

    def whole(self, conversation: Conversation) -> list[int]:
        """All tokens of a conversation, nothing cut off."""
        return self._reference.whole(conversation)

    def learned(self, rows: Rows) -> Any:
        """Number of tokens that are learned, by row."""
        totals = np.cumsum(np.append(0, rows.labels != IGNORE_INDEX))
        return np.diff(totals[rows.ends], prepend=0)

    def spoilt(self, rows: Rows) -> dict[int, RowError]:
        """The rows that are cut inside their prompt, or have no complete answer, by index."""
        found = {}
        for index, cut in rows.cuts.items():
            try:
                check_kept(cut.turns[0], cut.kept[0], rows.whole[index], self._cutoff)
            except RowError as problem:
                found[index] = problem
        return found


class _Fast:
    def __init__(self, spell: Callable[[Conversation], Spelled], encoder: PieceEncoder, rules: Rules) -> None:
        self._spell = spell
        self._encoder = encoder
        self._rules = rules

    def encode(self, batches: Iterable[Conversations], reference: Reference) -> Iterator[Rows]:
        """reference: encodes the batches in which something can't be spelled."""
        threads = min(len(os.sched_getaffinity(0)), MAX_THREADS)
        waiting: deque[tuple[Conversations, _Begun | None]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for batch in batches:
                waiting.append((batch, self._begin(batch, pool)))
                if len(waiting) > threads:
                    yield self._finish(*waiting.popleft(), reference)
            while waiting:
                yield self._finish(*waiting.popleft(), reference)

    def _begin(self, batch: Conversations, pool: ThreadPoolExecutor) -> "_Begun | None":
        numbers: dict[Piece, int] = {}
        try:
            rows = [self._number(conversation, numbers) for conversation in batch]
        except (TypeError, AttributeError) as problem:
            log.warning("%d rows are encoded by LLaMA-Factory itself: %s", len(batch), problem)
            return None
        return _Begun(rows, pool.submit(self._encoder.encode, list(numbers)))

    def _number(self, conversation: Conversation, numbers: dict[Piece, int]) -> Turns:
        """The turns, with their pieces numbered as they come up first."""
        return [
            (
                [numbers.setdefault(piece, len(numbers)) for piece in prompt],
                [numbers.setdefault(piece, len(numbers)) for piece in answer],
            )
            for prompt, answer in self._spell(conversation)
        ]

    def _finish(self, batch: Conversations, begun: "_Begun | None", reference: Reference) -> Rows:
        return reference.encode(batch) if begun is None else begun.finish(self._rules)


@dataclass(frozen=True)
class _Begun:
    rows: Sequence[Turns]
    arena: "Future[Arena]"

    def finish(self, rules: Rules) -> Rows:
        return arrange(self.rows, self.arena.result(), rules)


def segments(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """The text of a row in pieces, each with whether it is learned."""
    learned = encoded.labels != IGNORE_INDEX
    borders = np.flatnonzero(np.diff(learned)) + 1
    parts = zip(np.split(encoded.tokens, borders), np.split(learned, borders), strict=True)
    return [
        (tokenizer.decode(tokens.tolist(), skip_special_tokens=False), bool(flags[0]))
        for tokens, flags in parts
        if len(tokens)
    ]


def _find_fast(template: Any, tokenizer: Any, processor: Any, data_args: Any) -> _Fast | None:
    """None where the template does what can't be followed, or the tokenizer is not a fast one."""
    try:
        speller = Speller(template, tokenizer, processor, data_args)
        spell = ShapeSpeller(speller.spell) if is_plain(template) else speller.spell
        for probe in PROBES:
            spell(probe)
        if speller.writes_ahead():
            return None
        encoder = PieceEncoder(tokenizer)
    except Exception as problem:  # a template may do anything, and is then used as LLaMA-Factory does
        log.warning("rows are encoded by LLaMA-Factory itself, which is slower: %s", problem)
        return None
    rules = Rules(
        cutoff=data_args.cutoff_len,
        last_answer_alone=data_args.mask_history,
        prompts_too=data_args.train_on_prompt,
        closing=tokenizer.eos_token_id if template.efficient_eos else None,
    )
    return _Fast(spell, encoder, rules)


def _split(column: Any, rows: Rows) -> Sequence[Any]:
    return np.split(column, rows.ends[:-1])

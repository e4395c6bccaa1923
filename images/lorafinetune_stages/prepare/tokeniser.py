"""Conversations into tokens and labels: the very ones that LLaMA-Factory makes, made in another way.

Its own template code says what is written, tiktoken or the tokenizer makes tokens of that, and numpy lays the
rows out. All the same a few rows of every run are compared with LLaMA-Factory's own encoding; where the two
differ, or a template does what can't be followed, its own encoding is used.

Importing this module imports torch, transformers and LLaMA-Factory, which takes long.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.conversation import Conversation, Packed, Turn
from lorafinetune_stages.prepare.findings import RowError
from lorafinetune_stages.prepare.labels import LabelledRows, Rules, arrange
from lorafinetune_stages.prepare.piece_encoder import PieceEncoder
from lorafinetune_stages.prepare.piece_index import PieceIndex
from lorafinetune_stages.prepare.reference import Reference
from lorafinetune_stages.prepare.rendering import Renderer
from lorafinetune_stages.prepare.shapes import ShapeRenderer, is_plain
from lorafinetune_stages.prepare.truncation import check_kept

log = logging.getLogger("lorafinetune")

PROBES: Final = (
    Conversation((Turn("user", "q"), Turn("assistant", "a"))),
    Conversation((Turn("user", "I'm  12345?\n\n"), Turn("assistant", " 你好🐳 é\r\n")) * 2, "Be brief."),
    Conversation((Turn("user", "q " * 1200), Turn("assistant", "r " * 1200)) * 2),
)
"""Rows on which both ways are tried before any other."""

Batch = Sequence[Packed]


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
        self._fast = _find_fast(template, tokenizer, processor, data_args, self._reference)
        self.prove(PROBES)

    @property
    def is_fast(self) -> bool:
        """Whether LLaMA-Factory's own encoding is not needed."""
        return self._fast is not None

    def prove(self, conversations: Sequence[Conversation]) -> None:
        """Encodes these both ways. Where they differ, LLaMA-Factory's is used from then on."""
        if self._fast is None:
            return
        found = self._fast.encode(_packed(conversations))
        if not found.equals(self._reference.encode(conversations)):
            log.warning("these tokens are not LLaMA-Factory's, so its own encoding is used: it is slower")
            self._fast = None

    def encode_packed(self, batch: Batch) -> LabelledRows:
        """The rows of a batch, of which there is one or more."""
        return self._fast.encode(batch) if self._fast else self._reference.encode(_unpacked(batch))

    def encode(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """One result for every conversation, in their order."""
        rows = self.encode_packed(_packed(conversations))
        return [
            Encoded(tokens, labels)
            for tokens, labels in zip(_split(rows.tokens, rows), _split(rows.labels, rows), strict=True)
        ]

    def whole(self, conversation: Conversation) -> list[int]:
        """All tokens of a conversation, nothing cut off."""
        return self._reference.whole(conversation)

    def spoilt(self, rows: LabelledRows) -> dict[int, RowError]:
        """The rows that are cut inside their prompt, or have no complete answer, by index."""
        found = {}
        for index, cut in rows.cuts.items():
            try:
                check_kept(cut.turns[0], cut.kept[0], rows.whole[index], self._cutoff)
            except RowError as problem:
                found[index] = problem
        return found


@dataclass(frozen=True)
class _Fast:
    """reference: encodes the batches in which something can't be rendered."""

    render: Callable[[Batch], PieceIndex]
    encoder: PieceEncoder
    rules: Rules
    reference: Reference

    def encode(self, batch: Batch) -> LabelledRows:
        try:
            index = self.render(batch)
        except (TypeError, AttributeError) as problem:
            log.warning("%d rows are encoded by LLaMA-Factory itself: %s", len(batch), problem)
            return self.reference.encode(_unpacked(batch))
        return arrange(index, self.encoder.recall(index.pieces), self.rules)


def _packed(conversations: Sequence[Conversation]) -> Batch:
    return [conversation.pack("") for conversation in conversations]


def _unpacked(batch: Batch) -> list[Conversation]:
    return [conversation for _, conversation in map(Conversation.unpack, batch)]


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


def _find_fast(
    template: Any, tokenizer: Any, processor: Any, data_args: Any, reference: Reference
) -> _Fast | None:
    """None where the template does what can't be followed, or the tokenizer is not a fast one."""
    try:
        renderer = Renderer(template, tokenizer, processor, data_args)
        for probe in PROBES:
            renderer.render(probe)
        if renderer.writes_ahead():
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

    def one_by_one(batch: Batch) -> PieceIndex:
        return PieceIndex.of([renderer.render(conversation) for conversation in _unpacked(batch)])

    render = ShapeRenderer(renderer.render, encoder.added) if is_plain(template) else one_by_one
    return _Fast(render, encoder, rules, reference)


def _split(column: Any, rows: LabelledRows) -> Sequence[Any]:
    return np.split(column, rows.ends[:-1])

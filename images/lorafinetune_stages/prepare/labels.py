"""Which tokens of a row are kept and which are learned, by LLaMA-Factory's rules, for many rows at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llamafactory.data.processor.processor_utils import infer_seqlen
from llamafactory.extras.constants import IGNORE_INDEX

from lorafinetune_stages.prepare.piece_encoder import Arena
from lorafinetune_stages.prepare.piece_index import PieceIndex, Turns
from lorafinetune_stages.prepare.truncation import Turn


@dataclass(frozen=True)
class Rules:
    """closing: the token that ends every row and stands for the end of its earlier answers, where the
    template leaves that to LLaMA-Factory."""

    cutoff: int
    last_answer_alone: bool
    prompts_too: bool
    closing: int | None


@dataclass(frozen=True)
class TruncatedTurns:
    """turns: of one row, in the order in which they are kept. kept: what is left of each."""

    turns: Sequence[Turn]
    kept: list[Turn]


@dataclass(frozen=True)
class LabelledRows:
    """tokens, labels: of all rows in a row, as int32. ends: where each row ends. whole, answers: tokens of
    each row and of its answers before anything was cut off. cuts: where something was, by the row's index."""

    tokens: Any
    labels: Any
    ends: Any
    whole: Sequence[int]
    answers: Sequence[int]
    cuts: Mapping[int, TruncatedTurns]

    def equals(self, other: "LabelledRows") -> bool:
        pairs = zip(self._columns, other._columns, strict=True)
        return self.cuts == other.cuts and all(np.array_equal(one, two) for one, two in pairs)

    @property
    def _columns(self) -> tuple[Any, ...]:
        return self.tokens, self.labels, self.ends, self.whole, self.answers


@dataclass
class _Runs:
    """Stretches of the arena that make up the rows. closings: where a label is the closing token."""

    starts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    closings: list[int] = field(default_factory=list)
    total: int = 0

    def add(self, start: int, size: int, learned: bool) -> None:
        self.starts.append(start)
        self.sizes.append(size)
        self.learned.append(learned)
        self.total += size


def arrange(index: PieceIndex, arena: Arena, rules: Rules) -> LabelledRows:
    """Every row of its pieces, cut at the cutoff."""
    sides, turns = index.sides, np.fromiter(map(len, index.parts), np.int64)
    sizes = arena.sizes[index.numbers]
    by_side = _sums(sizes, sides)
    whole = _sums(by_side, 2 * turns)
    if rules.closing is not None or rules.last_answer_alone or whole.max(initial=0) > rules.cutoff:
        return _arrange_each([*index.turns()], arena, rules)
    learned = np.repeat(np.tile([rules.prompts_too, True], turns.sum()), sides)
    tokens, labels = _gather(arena.starts[index.numbers], sizes, learned, arena, None)
    answers = _sums(by_side[1::2], turns)
    return LabelledRows(tokens, labels, np.cumsum(whole), whole.tolist(), answers.tolist(), {})


def _arrange_each(rows: Sequence[Turns], arena: Arena, rules: Rules) -> LabelledRows:
    """The same row by row, which any rules can be followed in."""
    arena = Arena(arena.tokens, arena.starts.tolist(), arena.sizes.tolist())
    lengths = [[(_size(prompt, arena), _size(answer, arena)) for prompt, answer in turns] for turns in rows]
    sizes = [sum(map(sum, turns)) + (rules.closing is not None) for turns in lengths]
    cuts = {index: _cut(lengths[index], rules) for index, size in enumerate(sizes) if size > rules.cutoff}
    runs, ends = _Runs(), []
    for index, turns in enumerate(rows):
        kept = _in_order(cuts[index].kept, rules) if index in cuts else lengths[index]
        _lay_out(runs, turns, kept, arena, rules)
        ends.append(runs.total)
    tokens, labels = _gather(runs.starts, runs.sizes, runs.learned, arena, rules.closing)
    if runs.closings:
        labels[runs.closings] = rules.closing
    answers = [sum([answer for _, answer in turns]) for turns in lengths]
    return LabelledRows(tokens, labels, np.array(ends, np.int64), sizes, answers, cuts)


def _sums(values: Any, counts: Any) -> Any:
    """Of so many values that follow each other."""
    totals = np.append(0, np.cumsum(values))
    return np.diff(totals[np.append(0, np.cumsum(counts))])


def _size(pieces: Sequence[int], arena: Arena) -> int:
    return sum([arena.sizes[piece] for piece in pieces])


def _cut(turns: list[Turn], rules: Rules) -> TruncatedTurns:
    ordered = _in_order(turns, rules)
    return TruncatedTurns(ordered, keep(ordered, rules.cutoff - (rules.closing is not None)))


def _in_order(turns: list[Turn], rules: Rules) -> list[Turn]:
    """Turns in the order in which they are kept, or those back in their own."""
    return turns[::-1] if rules.last_answer_alone else turns


def keep(turns: Sequence[Turn], room: int) -> list[Turn]:
    """What LLaMA-Factory keeps of every turn, in the order in which they are kept. room: in tokens."""
    kept: list[Turn] = []
    for prompt, answer in turns:
        kept.append(infer_seqlen(prompt, answer, room) if room > 0 else (0, 0))
        room -= sum(kept[-1])
    return kept


def _lay_out(runs: _Runs, turns: Turns, kept: Sequence[Turn], arena: Arena, rules: Rules) -> None:
    """Adds one row."""
    first = len(turns) - 1 if rules.last_answer_alone else 0
    for index, ((prompt, answer), (asked, answered)) in enumerate(zip(turns, kept, strict=True)):
        if rules.closing is not None and index != first and asked:
            runs.closings.append(runs.total)
        _take(runs, prompt, asked, arena, rules.prompts_too)
        _take(runs, answer, answered, arena, not rules.last_answer_alone or index == first)
    if rules.closing is not None:
        runs.add(len(arena.tokens), 1, True)


def _take(runs: _Runs, pieces: Sequence[int], size: int, arena: Arena, learned: bool) -> None:
    """The first tokens of the pieces, as many as `size`."""
    for piece in pieces:
        taken = min(arena.sizes[piece], size)
        if taken:
            runs.add(arena.starts[piece], taken, learned)
        size -= taken


def _gather(starts: Any, sizes: Any, learned: Any, arena: Arena, closing: int | None) -> tuple[Any, Any]:
    """Tokens and labels of stretches of the arena. The closing token is looked for behind it."""
    source = arena.tokens if closing is None else np.append(arena.tokens, np.int32(closing))
    lengths = np.array(sizes, np.int64)
    ends = np.cumsum(lengths)
    shift = np.array(starts, np.int64) - (ends - lengths)
    tokens = source[np.arange(ends[-1] if len(ends) else 0) + np.repeat(shift, lengths)]
    return tokens, np.where(np.repeat(np.array(learned, bool), lengths), tokens, np.int32(IGNORE_INDEX))

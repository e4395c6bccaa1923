"""Whether two ways of merging bytes into tokens are one: by ranked pairs, or by ranked results.

`tokenizers` merges the pair that stands first in a list of pairs. `tiktoken` is several times as fast, and
merges the pair whose result has the lowest rank. They agree on every text if they agree on each token taken
as a text of its own, and no token's turn comes before those of its parts:

Look at the first step at which they would part, where some pair becomes the token w. No merge has crossed
the borders of w before, so within them all went as it does in w alone. The pair is thus the one of which w is
made when it stands alone, and that pair both of them know. Nor can two pairs that become w stand in each
other's way: they would be the same pair, of which both merge the leftmost first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise, repeat
from typing import Any, Final

import numpy as np

NONE: Final = -1
Pair = Sequence[str]


@dataclass(frozen=True)
class Ranked:
    """tokens: by rank, the single bytes first. made: whether a token that stands alone becomes itself.
    late: tokens whose parts rank behind them; in a text that has one of these nothing is shown."""

    tokens: Sequence[str]
    made: Sequence[bool]
    late: Sequence[str]


def rank_results(single: Sequence[str], pairs: Sequence[Pair], whole_first: bool) -> Ranked | None:
    """Ranks by which results are merged as the pairs are; None where that can't be shown.

    single: the tokens of one byte; in all tokens a character stands for a byte. whole_first: a text that is
    a token is not merged, but taken whole.
    """
    results = [left + right for left, right in pairs]
    tokens = [*single, *(result for result, _ in groupby(results))]
    ranks = dict(zip(tokens, range(len(tokens)), strict=True))
    columns = [left for left, _ in pairs], [right for _, right in pairs], results
    parts = chain.from_iterable(columns)
    numbered = np.fromiter(map(ranks.get, parts, repeat(NONE)), np.int64).reshape(3, -1).T
    if len(ranks) < len(tokens) or (numbered == NONE).any():
        return None
    derivation = _Derivation(numbered, len(single), len(tokens))
    late = derivation.derive([len(token) for token in tokens])
    made: Sequence[bool] = derivation.made.tolist()
    if whole_first and not _all_splits_listed(tokens, made, ranks, set(map(tuple, pairs))):
        return None
    return Ranked(tokens, made, [tokens[rank] for rank in late])


class _Derivation:
    """Finds of which pair each token is made when it stands alone. pairs: left, right, result; by rank."""

    def __init__(self, pairs: Any, singles: int, tokens: int) -> None:
        self._pairs = pairs
        self._parts = np.full((tokens, 2), NONE)
        self.made = np.arange(tokens) < singles
        self._singles = singles
        keys = pairs[:, 0] * tokens + pairs[:, 1]
        self._order = np.argsort(keys)
        self._keys = keys[self._order]
        self._tokens = tokens

    def derive(self, lengths: Sequence[int]) -> Sequence[int]:
        """Tells which tokens are made, and returns those that would be made before one of their parts."""
        of_results = np.array(lengths)[self._pairs[:, 2]]
        by_length = np.argsort(of_results, kind="stable")
        bounds = np.flatnonzero(np.diff(of_results[by_length], prepend=-1, append=-1))
        late: list[int] = []
        for start, end in pairwise(bounds.tolist()):
            found = self._undisturbed(self._pairs[by_length[start:end]])
            in_order = np.maximum(found[:, 0], found[:, 1]) < found[:, 2]
            late += found[~in_order, 2].tolist()
            self._parts[found[in_order, 2]] = found[in_order, :2]
            self.made[found[in_order, 2]] = True
        return late

    def _undisturbed(self, pairs: Any) -> Any:
        """Pairs whose parts are made side by side, without a merge across the border between them.

        The tokens at the border are undone one by one, the latest first; while the two that then stand there
        are next to each other, they must not be a pair whose turn comes before the next merge.
        """
        pairs = pairs[self.made[pairs[:, 0]] & self.made[pairs[:, 1]]]
        good = np.ones(len(pairs), bool)
        rows, (left, right) = np.arange(len(pairs)), pairs[:, :2].T
        while len(rows):
            more = np.maximum(left, right) >= self._singles
            rows, left, right = rows[more], left[more], right[more]
            undo_left = left > right
            turn = np.maximum(left, right)
            left, right = (
                np.where(undo_left, self._parts[left, 1], left),
                np.where(undo_left, right, self._parts[right, 0]),
            )
            # of two equal pairs that overlap, the left one is merged
            crossed = self._result(left, right) < np.where(undo_left, turn, turn + 1)
            good[rows[crossed]] = False
            rows, left, right = rows[~crossed], left[~crossed], right[~crossed]
        return pairs[good]

    def _result(self, left: Any, right: Any) -> Any:
        """What pairs become; a rank after all others for those that are none."""
        keys = left * self._tokens + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._pairs[self._order[at], 2], self._tokens)


def _all_splits_listed(
    tokens: Sequence[str], made: Sequence[bool], ranks: Collection[str], pairs: Collection[tuple[str, ...]]
) -> bool:
    """Whether no token that is only ever taken whole could be merged from parts that are no pair."""
    splits = (
        (token[:at], token[at:])
        for token, is_made in zip(tokens, made, strict=True)
        if not is_made
        for at in range(1, len(token))
    )
    return all(split in pairs for split in splits if split[0] in ranks and split[1] in ranks)

"""Whole conversations in packs of at most so many tokens, filled over the whole set: bin packing.

Prepare counts the packs for its estimate, and train makes its steps from them, both by this one function.
Millions of rows may have a pack each, so there is an object for no row and for no pack.
"""

from array import array
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorafinetune.contract.effort import leaves_room
from lorafinetune_stages.store import Advance, ignore_progress

WINDOW: Final = 24
"""Rows of which the last ones of a pack are chosen: their sums reach about every number of tokens."""
CHOSEN: Final = 8
"""About as many of them a pack gets; more would only cost time."""
UNITS: Final = 2048
"""Sums are told apart to such a part of the room that they are to fill."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class FixedPacks:
    """rows: the numbers of all rows, pack after pack. bounds: where packs begin in them, and where the last
    one ends."""

    rows: Numbers
    bounds: Numbers

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, pack: int) -> Numbers:
        """The rows of one pack."""
        return self.rows[self.bounds[pack] : self.bounds[pack + 1]]


def fill(lengths: Numbers, size: int, seed: int, advance: Advance = ignore_progress) -> FixedPacks:
    """Every row in one pack of at most `size` tokens. lengths: of all rows in tokens, none above `size`.
    advance: gets the rows that have a pack.

    Rows come in an order drawn by the seed, so that a pack has long and short ones, of all datasets. Where
    that leaves room, as with many rows above half the size, the longest may come first.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    packs = _in_turn(lengths, order, size, advance)
    if leaves_room(int(lengths.sum()), len(packs), size):
        decreasing = order[np.argsort(-lengths[order], kind="stable")]
        packs = min(packs, _best_fit(lengths, decreasing, size), key=len)
    return packs


def _in_turn(lengths: Numbers, order: Numbers, size: int, advance: Advance) -> FixedPacks:
    """The rows in this order, but for the last ones of each pack: those of the next that fill it best."""
    of, later = lengths.data, iter(order.data)
    most = size + WINDOW  # that one pack can ask for: no row is empty
    waiting = deque(islice(later, most))
    kept = CHOSEN * int(lengths.mean()) if waiting else 0
    rows, bounds = array("q"), array("q", [0])
    while waiting:
        pack = [waiting.popleft()]
        room = size - of[pack[0]]
        while waiting and room - of[waiting[0]] >= kept:
            pack.append(waiting.popleft())
            room -= of[pack[-1]]
        window = [waiting.popleft() for _ in range(min(WINDOW, len(waiting)))]
        unit = room // UNITS + 1
        chosen = _fullest([-(-of[row] // unit) for row in window], room // unit)
        pack += [window[place] for place in sorted(chosen)]
        waiting.extendleft(row for place, row in reversed([*enumerate(window)]) if place not in chosen)
        rows.extend(pack)
        bounds.append(len(rows))
        advance(len(pack))
        if len(waiting) < most:
            waiting.extend(islice(later, most))
    return FixedPacks(np.array(rows), np.array(bounds))


def _fullest(lengths: Sequence[int], room: int) -> set[int]:
    """Places of the lengths with the largest sum that is not above the room.

    A set of sums is a number, whose bit n says whether n is a sum. before: of the lengths ahead of each.
    """
    sums, most = 1, (2 << room) - 1
    before = []
    for length in lengths:
        before.append(sums)
        sums |= sums << length & most
        if sums >> room:
            break
    left, chosen = sums.bit_length() - 1, set()
    for place in reversed(range(len(before))):
        if not before[place] >> left & 1:
            chosen.add(place)
            left -= lengths[place]
    return chosen


def _best_fit(lengths: Numbers, order: Numbers, size: int) -> FixedPacks:
    """Each row, in this order, into the fullest pack that has room for it."""
    found = array("q")  # the pack of each row
    packs = 0
    rooms: list[int] = []  # that packs have, each number once
    having: defaultdict[int, array[int]] = defaultdict(partial(array, "q"))  # packs by their room
    for length in lengths[order].data:
        at = bisect_left(rooms, length)
        if at == len(rooms):
            pack, room, packs = packs, size, packs + 1
        else:
            room = rooms[at]
            pack = having[room].pop()
            if not having[room]:
                del rooms[at], having[room]
        found.append(pack)
        if left := room - length:
            if left not in having:
                insort(rooms, left)
            having[left].append(pack)
    of_rows = np.array(found)
    bounds = np.append(0, np.cumsum(np.bincount(of_rows, minlength=packs)))
    return FixedPacks(order[np.argsort(of_rows, kind="stable")], bounds)

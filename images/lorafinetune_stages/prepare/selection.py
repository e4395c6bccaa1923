"""Which rows are used, and which of them are held out: by numbers alone, the same on every machine.

Random choices come from `random.Random` with a text as seed: its sequence is part of Python's promise,
and does not depend on PYTHONHASHSEED, on numpy or on torch.
"""

import random
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Final, Literal

from lorafinetune.api.datasets import Dataset
from lorafinetune.api.evaluation import Evaluation
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Training
from lorafinetune.contract.outcome import StageError

Sampling = Literal["head", "shuffle", "proportional"]
Pools = Sequence[Sequence[int]]
"""Numbers of the rows of every dataset, ascending over all of them."""
ONE: Final = Fraction(1)


@dataclass(frozen=True)
class Rows:
    """Numbers of the rows to train on, and of those that are held out; both ascending. warnings: what a
    person should know of the choice."""

    train: Sequence[int]
    held_out: Sequence[int]
    warnings: Sequence[str] = ()


def choose(pools: Pools, datasets: Sequence[Dataset], training: Training, prompts: Sequence[int]) -> Rows:
    """The rows that are used. prompts: one number for each row, equal where its prompt is.

    Raises StageError(ConfigInvalid) where nothing is left to train or to evaluate on.
    """
    apart = _apart(datasets, training.evaluation)
    sampled = [() if index == apart else pool for index, pool in enumerate(pools)]
    weights = [_weight(dataset) for dataset in datasets]
    counts = [len(pool) for pool in sampled]
    used = _numbers(sampled, select(counts, training.max_samples, training.sampling, training.seed, weights))
    train, held_out = _parted(used, None if apart is None else pools[apart], training, prompts)
    return Rows(train, held_out, [*_told_shrunk(counts, datasets, training, len(used))])


def _parted(
    used: Sequence[int], apart: Sequence[int] | None, training: Training, prompts: Sequence[int]
) -> tuple[Sequence[int], Sequence[int]]:
    """The rows to train on and those to hold out. apart: those of a dataset that is held out as a whole."""
    evaluation = training.evaluation
    if evaluation is None:
        return used, ()
    if apart is not None:
        _check_dataset(used, apart, evaluation)
        return used, apart
    count = _held_out_count(evaluation, len(used))
    if evaluation.group_by is None:
        parts = split(used, count, training.seed)
    else:
        parts = split_groups(used, count, training.seed, prompts)
    _check_parts(*parts, evaluation, prompts)
    return parts


def select(
    counts: Sequence[int],
    limit: int | None,
    sampling: Sampling,
    seed: int,
    weights: Sequence[Fraction] = (),
) -> Sequence[int]:
    """Numbers of the rows that are used, ascending. counts: rows of every dataset, which are numbered
    through in merge order. limit: how many are used at most. weights: of the datasets, 1 by default.

    head: the first. shuffle: a random choice. proportional: the first of every dataset, as many as its
    share of all rows times its weight, rounded so that the sum is the limit, or what the datasets can give.
    """
    total = sum(counts)
    sizes = [count * weight for count, weight in zip(counts, weights or [ONE] * len(counts), strict=True)]
    limit = min(total if limit is None else limit, _most(counts, sizes))
    if limit >= total:
        return range(total)
    match sampling:
        case "head":
            return range(limit)
        case "shuffle":
            return sorted(random.Random(f"sampling {seed}").sample(range(total), limit))  # noqa: S311 - a sample, not a secret
        case "proportional":
            return _heads(counts, shares(sizes, limit))


def shares(sizes: Sequence[int | Fraction], limit: int) -> list[int]:
    """Parts of `limit` in proportion to the sizes: largest remainder, ties to the first."""
    total = Fraction(sum(sizes))
    exact = [size * limit / total for size in sizes]
    whole = [int(part) for part in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda index: (whole[index] - exact[index], index))
    for index in by_remainder[: limit - sum(whole)]:
        whole[index] += 1
    return whole


def split(rows: Sequence[int], count: int, seed: int) -> tuple[Sequence[int], Sequence[int]]:
    """The rows to train on and the `count` rows to hold out, both ascending."""
    held_out = set(random.Random(f"split {seed}").sample(range(len(rows)), count))  # noqa: S311 - a sample, not a secret
    return (
        array("Q", (row for index, row in enumerate(rows) if index not in held_out)),
        array("Q", (rows[index] for index in sorted(held_out))),
    )


def split_groups(
    rows: Sequence[int], count: int, seed: int, groups: Sequence[int]
) -> tuple[Sequence[int], Sequence[int]]:
    """As `split`, but rows of one group stay together: at most `count` rows are held out.

    groups: the group of each row, by the row's number.
    """
    sizes: dict[int, int] = {}
    for row in rows:
        sizes[groups[row]] = sizes.get(groups[row], 0) + 1
    held_out = _fitting(sizes, count, seed)
    return (
        array("Q", (row for row in rows if groups[row] not in held_out)),
        array("Q", (row for row in rows if groups[row] in held_out)),
    )


def _fitting(sizes: Mapping[int, int], room: int, seed: int) -> set[int]:
    """Groups that fill the room, drawn at random, but for those that no longer fit."""
    order = list(sizes)
    random.Random(f"split {seed}").shuffle(order)  # noqa: S311 - an order, not a secret
    taken: set[int] = set()
    for group in order:
        if sizes[group] <= room:
            taken.add(group)
            room -= sizes[group]
    return taken


def _apart(datasets: Sequence[Dataset], evaluation: Evaluation | None) -> int | None:
    """The dataset that is held out as a whole, by its index."""
    name = evaluation.dataset if evaluation else None
    return next((i for i, dataset in enumerate(datasets) if name and dataset.name == name), None)


def _weight(dataset: Dataset) -> Fraction:
    return Fraction(dataset.weight) if dataset.weight else ONE


def _told_shrunk(
    counts: Sequence[int], datasets: Sequence[Dataset], training: Training, used: int
) -> Iterator[str]:
    """What is said where the weights leave fewer rows than may be used."""
    total = sum(counts)
    if training.sampling != "proportional" or used == min(total, training.max_samples or total):
        return
    heaviest = max((i for i, count in enumerate(counts) if count), key=lambda i: _weight(datasets[i]))
    if datasets[heaviest].weight is not None:
        yield f"{used} of {total} rows are used: datasets[{heaviest}].weight asks for more rows than it has"


def _most(counts: Sequence[int], sizes: Sequence[Fraction]) -> int:
    """The most rows of which no dataset has to give more than it has."""
    total = sum(sizes)
    return min(
        (int(count * total / size) for count, size in zip(counts, sizes, strict=True) if size), default=0
    )


def _held_out_count(evaluation: Evaluation, rows: int) -> int:
    """The nearest whole number to the fraction: at least one row, and never the last one."""
    if evaluation.count is not None:
        return min(evaluation.count, rows)
    fraction = float(evaluation.fraction or 0)
    return min(max(round(fraction * rows), 1), rows - 1) if fraction and rows > 1 else 0


def _check_dataset(train: Sequence[int], held_out: Sequence[int], evaluation: Evaluation) -> None:
    name, total = evaluation.dataset, len(train) + len(held_out)
    if not held_out:
        raise _unusable(
            f"dataset: all rows of {name} equal earlier ones, and none is left to hold out",
            "Put it first in `datasets`, leave out `training.deduplicate`",
        )
    if not train:
        raise _unusable(
            f"dataset: {name} of {total} rows leaves none to train on", "Add a dataset with other rows"
        )


def _check_parts(
    train: Sequence[int], held_out: Sequence[int], evaluation: Evaluation, prompts: Sequence[int]
) -> None:
    field, value = "count", str(evaluation.count)
    if evaluation.fraction is not None:
        field, value = "fraction", evaluation.fraction
    asked = f"{field}: {value} of {len(train) + len(held_out)} rows"
    if not held_out and evaluation.group_by:
        smallest = min(Counter(prompts[row] for row in train).values(), default=0)
        more = "Hold out at least as many, leave out" if smallest < len(train) else "Leave out"
        raise _unusable(
            f"{asked} holds none out: the smallest group of equal prompts has {smallest} rows",
            f"{more} `groupBy`",
        )
    if not held_out:
        raise _unusable(f"{asked} holds none out", "Raise it, add rows")
    if not train:
        raise _unusable(f"{asked} leaves none to train on", "Lower it, add rows")


def _unusable(what: str, hint: str) -> StageError:
    hint = f"{hint}, or leave out `training.evaluation`."
    return StageError(Reason.CONFIG_INVALID, f"training.evaluation.{what}", hint)


def _numbers(pools: Pools, positions: Sequence[int]) -> Sequence[int]:
    """The rows at these positions of all pools together."""
    everything = array("Q", chain.from_iterable(pools))
    return everything if len(positions) == len(everything) else [everything[at] for at in positions]


def _heads(counts: Sequence[int], parts: Sequence[int]) -> list[int]:
    rows: list[int] = []
    start = 0
    for count, part in zip(counts, parts, strict=True):
        rows.extend(range(start, start + part))
        start += count
    return rows

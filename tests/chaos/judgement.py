"""Whether a run ended as it should, from what was seen of it; and the table of all that was tried."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.results import Row
from chaos.schedule import EXPLAINS, Schedule

Verdict = Literal["completed", "failed with the right reason", "wrong"]


@dataclass(frozen=True)
class End:
    """What was seen of a run.

    reason: of its failure; empty where it is complete. digests: of its artefacts. crowded: the stages of
    which two pods were seen running at once. broken: files that are not as their manifest says. left: what
    was still there after it was deleted. trouble: why it could not be seen to its end.
    """

    reason: str = ""
    digests: Mapping[str, str] | None = None
    crowded: frozenset[str] = frozenset()
    broken: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Judged:
    """struck: what really was done to it, by its own schedule."""

    schedule: Schedule
    struck: tuple[str, ...]
    verdict: Verdict
    complaints: tuple[str, ...]

    @property
    def missed(self) -> tuple[str, ...]:
        """What its schedule had for it and was not done: nothing was there to be struck."""
        planned = Counter(strike.what for strike in self.schedule.strikes)
        return tuple((planned - Counter(self.struck)).elements())


def judge(schedule: Schedule, struck: Sequence[str], around: Iterable[str], end: End, twin: End) -> Judged:
    """around: what struck all runs while it lived. twin: how the same run ends when it is left alone."""
    excuses = {reason for what in (*struck, *around) for reason in EXPLAINS.get(what, ())}
    complaints = tuple(_complaints(end, twin, excuses))
    verdict: Verdict = "failed with the right reason" if end.reason else "completed"
    return Judged(schedule, tuple(struck), "wrong" if complaints else verdict, complaints)


def _complaints(end: End, twin: End, excuses: set[str]) -> Iterator[str]:
    if end.trouble:
        yield end.trouble
    elif end.reason and end.reason not in excuses:
        yield f"failed for {end.reason}, which nothing explains"
    elif not end.reason and end.digests != twin.digests:
        yield f"its artefacts are {end.digests}, and not {twin.digests}"
    yield from (f"two pods of {stage} ran at once" for stage in sorted(end.crowded))
    yield from (f"{file} is not what its manifest says" for file in end.broken)
    yield from (f"{thing} was left" for thing in end.left)


def crowded(running: Iterable[str]) -> frozenset[str]:
    """The stages that are there twice. running: the stage of each pod that runs."""
    stages = list(running)
    return frozenset(stage for stage in stages if stages.count(stage) > 1)


def tally(judged: Sequence[Judged], names: Iterable[str]) -> list[Row]:
    """One row for each disturbance that was drawn. A run counts in the row of each that struck it."""
    drawn = Counter(strike.what for j in judged for strike in j.schedule.strikes)
    return [_row(what, drawn[what], judged) for what in names if drawn[what]]


def _row(what: str, drawn: int, judged: Sequence[Judged]) -> Row:
    times = sum(j.struck.count(what) for j in judged)
    verdicts = [j.verdict for j in judged if what in j.struck]
    return {
        "disturbance": what,
        "drawn": drawn,
        "missed": drawn - times,
        "times": times,
        "completed": verdicts.count("completed"),
        "failed with the right reason": verdicts.count("failed with the right reason"),
        "wrong": verdicts.count("wrong"),
    }

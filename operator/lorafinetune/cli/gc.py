"""`lorafinetune gc`: frees what a store holds that no run refers to; it shows before it deletes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from lorafinetune.api import PLURAL
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli import INTERRUPTED
from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.document import read_resource
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.garbage import Output, Why, judged, outputs
from lorafinetune.cli.humanize import amount
from lorafinetune.cli.output import Format, aligned, emit, output, structured
from lorafinetune.cli.run import LOCK_FILE
from lorafinetune.cli.runs import age, clock, decoded
from lorafinetune.cli.store import StoreLocation, open_store_of
from lorafinetune.contract.arguments import RESOURCE_FILE
from lorafinetune.contract.outcome import ExitCode
from lorafinetune.contract.times import rfc3339
from lorafinetune.local.lock import is_held
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.manifest import withdraw_manifest

UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}
NO_RUNS: Final = (
    "Give another folder with --runs, or with --s3 another --namespace or --context; or --without-runs, if "
    "nobody needs what is there."
)
KEPT: Final[dict[Why, str]] = {
    "referred to": "referred to by runs",
    "young": "younger than {bound}",
    "may be found": "of kinds that unfinished runs may still look for",
}


@dataclass(frozen=True)
class Referrers:
    """Where runs that refer to a store are known. access: None where no cluster is asked. may_be_none: what
    nobody refers to is deleted also where no run of the store is known."""

    runs: Path
    access: Access | None
    may_be_none: bool = False


Known = Mapping[str, Sequence[LoRAFineTune]]
"""The runs of a store, by where they are known."""


def collect(
    resource: LoRAFineTune, where: StoreLocation, referrers: Referrers, bound: str, delete: bool, form: Format
) -> None:
    """Shows what is garbage, and deletes it if told to. bound: an age like `7d`. Raises CommandError and
    StageError."""
    before = clock() - span(bound)
    known = _known(resource, referrers)
    runs = [run for each in known.values() for run in each]
    if delete and not (runs or referrers.may_be_none):
        raise CommandError(f"NoRuns: {resource.spec.storage.uri} has {_told_of(known)}. {NO_RUNS}")
    store = open_store_of(resource, where)
    found = judged(outputs(store.list("")), runs, before.timestamp())
    if form.is_data:
        emit(structured([_told(each) for each in found["garbage"]], form))
    else:
        output.print("\n".join((f"runs of this store: {_told_of(known)}", *lines(found, bound, clock()))))
    freed = _delete_all(store, found["garbage"]) if delete else 0
    if found["garbage"] and not form.is_data:
        output.print(f"{amount(freed)} freed" if delete else "nothing is deleted: --delete does that")


def lines(found: dict[Why, list[Output]], bound: str, now: datetime) -> Iterator[str]:
    """The garbage, largest first, and how much is kept for which reason."""
    garbage = sorted(found["garbage"], key=lambda each: each.size, reverse=True)
    rows = [[each.place, amount(each.size), _age(each, now), _note(each)] for each in garbage]
    yield from aligned([["OUTPUT", "SIZE", "AGE", ""], *rows]) if rows else ()
    yield f"{_counted(garbage)} that no run refers to"
    for why, words in KEPT.items():
        if found[why]:
            yield f"kept: {_counted(found[why])} {words.format(bound=bound)}"


def span(bound: str) -> timedelta:
    """`7d`, `12h` or `30m` as a time. Raises CommandError."""
    found = re.fullmatch(r"(\d{1,5})([dhm])", bound)
    if found is None:
        raise CommandError(f"ConfigInvalid: {bound} is no age. Give one like 7d, 12h or 30m.")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _known(resource: LoRAFineTune, referrers: Referrers) -> Known:
    """Every run that has the same store."""
    _refuse_beside_a_live_run(referrers.runs)
    paths = sorted(referrers.runs.glob(f"*/*/{RESOURCE_FILE}"))
    found = {str(referrers.runs): [read_resource(path) for path in paths]}
    if referrers.access:
        cluster = connect(referrers.access)
        listed = cluster.list(PLURAL, cluster.namespace)
        found[f"the namespace {cluster.namespace}"] = [decoded(run) for run in listed]
    if resource.status:
        found["the file"] = [resource]
    uri = resource.spec.storage.uri.rstrip("/")
    return {
        place: [run for run in runs if run.spec.storage.uri.rstrip("/") == uri]
        for place, runs in found.items()
    }


def _refuse_beside_a_live_run(runs: Path) -> None:
    for lock in sorted(runs.glob(f"*/*/{LOCK_FILE}")):
        if is_held(lock):
            told = f"{lock.parent.name} is running on this machine, and may need what is there"
            raise CommandError(f"{told}. Try again when it has ended.", ExitCode.TEMPORARY)


def _told_of(known: Known) -> str:
    return ", ".join(f"{len(runs) or 'none'} in {place}" for place, runs in known.items())


def _delete_all(store: Store, garbage: Sequence[Output]) -> int:
    """How many bytes that has freed."""
    freed = 0
    try:
        for each in garbage:
            freed += _delete(store, each)
    except KeyboardInterrupt:
        told = f"interrupted: {amount(freed)} freed. The same command frees the rest."
        raise CommandError(told, INTERRUPTED) from None
    return freed


def _delete(store: Store, garbage: Output) -> int:
    """The manifest goes first: what is half deleted does not exist."""
    withdraw_manifest(store, garbage.place)
    store.delete(garbage.place)
    return garbage.size


def _age(each: Output, now: datetime) -> str:
    return age(rfc3339(datetime.fromtimestamp(each.modified, UTC)), now)


def _note(each: Output) -> str:
    return "" if each.complete else "incomplete"


def _counted(found: Sequence[Output]) -> str:
    word = "output" if len(found) == 1 else "outputs"
    return f"{len(found)} {word}, {amount(sum(each.size for each in found))},"


def _told(each: Output) -> dict[str, object]:
    return {
        "place": each.place,
        "bytes": each.size,
        "modified": rfc3339(datetime.fromtimestamp(each.modified, UTC)),
        "complete": each.complete,
    }

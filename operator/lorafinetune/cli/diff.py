"""`lorafinetune diff`: two runs side by side, each a file with its status or a name on the cluster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.safetext import safe_line
from lorafinetune.cli.connection import Access
from lorafinetune.cli.differences import Difference, Run, Section, comparable, differences
from lorafinetune.cli.errors import refused
from lorafinetune.cli.lookup import run_named
from lorafinetune.cli.output import Format, aligned, emit, errors, output, structured
from lorafinetune.cli.runs import status_of
from lorafinetune.cli.store import StoreLocation, open_store_of
from lorafinetune.contract.arguments import place
from lorafinetune.contract.outcome import StageError
from lorafinetune.core.steps import stage_status
from lorafinetune_stages.store.manifest import read_manifest

LONGEST_VALUE: Final = 60


def diff(names: Sequence[str], access: Access, where: StoreLocation, form: Format) -> None:
    """Prints what differs. names: two files or names of runs. Raises CommandError."""
    before, after = (_run(name, access, where) for name in names)
    found = differences(before, after)
    if form.is_data:
        emit(structured([asdict(each) for each in found], form))
        return
    for line in lines(found, comparable(before, after)):
        output.print(line)


def lines(found: Sequence[Difference], sections: Sequence[Section]) -> Iterator[str]:
    """Section by section; a section without a difference says so."""
    for section in sections:
        own = [each for each in found if each.section == section]
        yield section if own else f"{section}: no difference"
        rows = [
            [f"  {each.field}", _shown(each.before), "→", _shown(each.after), _note(each)] for each in own
        ]
        yield from aligned(rows) if rows else ()


def _note(each: Difference) -> str:
    return f"shapes {each.shapes}" if each.shapes else ""


def _shown(value: Any) -> str:
    text = "–" if value is None else safe_line(str(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _run(name: str, access: Access, where: StoreLocation) -> Run:
    resource = run_named(name, access)
    return Run(resource, _lineage(resource, where))


def _lineage(resource: LoRAFineTune, where: StoreLocation) -> Mapping[str, Any] | None:
    """What the training's manifest says; None, and a word about it, where that can't be read."""
    key = stage_status(status_of(resource), "train").key
    if key is None:
        return {}
    try:
        if manifest := read_manifest(open_store_of(resource, where), place("trainings", key)):
            return manifest.lineage
        why = "its training is not in the store."
    except StageError as problem:
        why = refused(problem).message
    errors.print(f"the lineage of {resource.metadata.name} is left out: {why}")
    return None

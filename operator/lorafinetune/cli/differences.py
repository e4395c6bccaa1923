"""What differs between two runs: the spec, the data, everything that shaped the result, and the result."""

import decimal
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli.runs import status_of
from lorafinetune.contract.keys import DECIMALS, FIELDS
from lorafinetune.report.leaves import flat

Section = Literal["spec", "data", "lineage", "result"]
SECTIONS: Final[tuple[Section, ...]] = ("spec", "data", "lineage", "result")
INDEX: Final = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Run:
    """One side. lineage: of its training's manifest; None where that can't be read."""

    resource: LoRAFineTune
    lineage: Mapping[str, Any] | None


@dataclass(frozen=True)
class Difference:
    """One field; None: it is not there. shapes: the stage whose output follows from it, for fields of the
    spec."""

    section: Section
    field: str
    before: Any
    after: Any
    shapes: str | None = None


def comparable(before: Run, after: Run) -> list[Section]:
    """Sections of which both sides are known."""
    unknown = None in (before.lineage, after.lineage)
    return [section for section in SECTIONS if section != "lineage" or not unknown]


def differences(before: Run, after: Run) -> list[Difference]:
    """Every field in which two runs differ, section by section."""
    sides = _sections(before), _sections(after)
    return [
        Difference(section, field, one, other, _shapes(field) if section == "spec" else None)
        for section in comparable(before, after)
        for field, one, other in _changed(flat(sides[0][section]), flat(sides[1][section]))
    ]


def _sections(run: Run) -> dict[Section, Any]:
    status = status_of(run.resource).encode()
    asked, found = (
        ("model", "dataset", "datasets"),
        ("stage", "training", "gpuSeconds", "resumes", "artifacts"),
    )
    result = {name: status.get(name) for name in found}
    (result["training"] or {}).pop("recent", None)
    (result["artifacts"] or {}).pop("report", None)  # its name alone makes it differ
    return {
        "spec": run.resource.spec.encode(),
        "data": {name: status.get(name) for name in asked},
        "lineage": run.lineage,
        "result": result | {"failure": status.get("failure")},
    }


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for field in [*before, *(field for field in after if field not in before)]:
        one, other = before.get(field), after.get(field)
        if _canonical(field, one) != _canonical(field, other):
            yield field, one, other


def _canonical(field: str, value: Any) -> Any:
    """`1e-4` and `0.0001` are the same learning rate."""
    is_decimal = INDEX.sub("[]", field) in DECIMALS and isinstance(value, str)
    return decimal.Decimal(value) if is_decimal else value


def _shapes(field: str) -> str | None:
    path = INDEX.sub("[]", field)
    known = (path.rpartition(".")[0] if "extraArgs" in path else path, path.rpartition("[]")[0], path)
    return next((stage for name in known if (stage := FIELDS.get(name))), None)

"""What tables, CSV and Parquet, have in common: named columns, some of which hold lists."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.findings import Kind, Place, Row, RowError, printable_start
from lorafinetune_stages.prepare.json_decoder import Decoder

MESSAGES: Final = re.compile(r"""\s*\[\s*\{.*["'](role|from)["']\s*:""", re.DOTALL)
"""A list of messages, be it broken: as Python writes it, for instance."""


@dataclass(frozen=True)
class TableColumns:
    """Names of columns. known: those that are read. nested: those of them that hold lists, which a table
    may keep as JSON in a text. either: those that hold texts or lists of messages."""

    known: Collection[str]
    nested: Collection[str]
    either: Collection[str] = ()

    def unpacked(self, place: Place, row: dict[str, Any]) -> Row:
        """The row with its lists as lists; an empty cell is none."""
        for name in (*self.nested, *self.either):
            cell = row.get(name)
            if not isinstance(cell, str) or (name in self.either and not MESSAGES.match(cell)):
                continue
            try:
                row[name] = Decoder().decode(cell) if cell else None
            except (ValueError, RecursionError):
                return place, RowError(Kind.BROKEN_JSON, name, "the cell is a text, and not a list as JSON")
            if isinstance(row[name], RowError):
                return place, RowError(Kind.BROKEN_JSON, name, str(row[name]))
        return place, row


def check_header(place: Place, names: Iterable[str]) -> None:
    """Raises StageError for columns that can't be told apart."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise StageError(
                Reason.DATASET_INVALID,
                f"{place}: two columns are named {printable_start(name)}",
                "Give every column a name of its own.",
            )
        seen.add(name)

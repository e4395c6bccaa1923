"""The names of columns that a dataset gives: by a slip in one, texts would be lost without a word."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from lorafinetune.api.datasets import Columns
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.formats import FORMATS, FormatName, Reader, columns_of

MAX_SHOWN_FIELDS: Final = 12
MAX_SHOWN_KEYS: Final = 4

Row = Mapping[str, Any]


def check_used(name: FormatName, own: Columns, index: int) -> None:
    """Raises StageError for a column that the format has not, and for two with one name. index: of the
    dataset, for messages."""
    used = FORMATS[name].reads
    for key in own.model_dump(exclude_none=True):
        if key not in used:
            raise StageError(
                Reason.DATASET_INVALID,
                f"datasets[{index}].columns.{key}: {name} has no {key}; it has {joined(used)}",
                f"Remove datasets[{index}].columns.{key}, or set another datasets[{index}].format.",
            )
    _check_apart(name, own, index)


def _check_apart(name: FormatName, own: Columns, index: int) -> None:
    first: dict[str, str] = {}
    of_rows = {"messages"} if name == "multiTurn" else set()  # the others are of its turns
    for key, field in columns_of(name, own).model_dump(exclude_none=True, exclude=of_rows).items():
        if (other := first.setdefault(field, key)) != key:
            raise StageError(
                Reason.DATASET_INVALID,
                f"datasets[{index}].columns: {other} and {key} are both {printable_name(field)}",
                f"Name another field in datasets[{index}].columns.{key}, or in {other}.",
            )


def check_there(reader: Reader, own: Columns, index: int, files: str, rows: Iterable[Any]) -> None:
    """Raises StageError for a name that no row has. rows: those that are used, of all files, read as far as
    is needed, which most often is one. files: their name, for messages."""
    missing = own.model_dump(exclude_none=True)
    first: Row | None = None
    for row in rows if missing else ():
        if isinstance(row, dict):
            first = row if first is None else first
            fields = _fields(row, reader)
            missing = {key: name for key, name in missing.items() if name not in fields}
            if not missing:
                return
    if first is not None:
        key, name = next(iter(missing.items()))
        raise StageError(
            Reason.DATASET_INVALID,
            f"datasets[{index}].columns.{key}: no row of {files} has a field {printable_name(name)} "
            f"(the first has {told_fields(first)})",
            f"Mend the name in datasets[{index}].columns.{key}, or leave it out.",
        )


def _fields(row: Row, reader: Reader) -> set[str]:
    """All that a column may name: in multiTurn, the fields of turns, too."""
    turns = row.get(reader.columns.messages or "") if reader.format == "multiTurn" else None
    return set(row).union(*(turn for turn in turns or () if isinstance(turn, dict)))


def joined(names: Sequence[str]) -> str:
    """Names in a sentence."""
    *more, last = names
    return f"{', '.join(more)} and {last}" if more else last


def told_fields(row: Row) -> str:
    """What a row has, for messages; of a list of objects, what the first one has."""
    fields = [printable_name(name) + _told_turn(row[name]) for name in islice(row, MAX_SHOWN_FIELDS)]
    more = ", …" if len(row) > MAX_SHOWN_FIELDS else ""
    return f"the fields {', '.join(fields)}{more}" if fields else "no fields"


def printable_name(name: str) -> str:
    """The name of a field, for messages."""
    return (name if name.isprintable() else ascii(name))[:40]


def _told_turn(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(first, dict):
        return ""
    more = ", …" if len(first) > MAX_SHOWN_KEYS else ""
    return f": [{{{', '.join(map(printable_name, islice(first, MAX_SHOWN_KEYS)))}{more}}}]"

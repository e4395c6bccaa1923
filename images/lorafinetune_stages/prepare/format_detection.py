"""Which format the rows of a file have; where that can't be told, what was seen and what would mend it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lorafinetune.api.datasets import Columns, Dataset
from lorafinetune.api.reasons import Reason
from lorafinetune.api.training import Objective
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.prepare.column_names import check_used, joined, printable_name, told_fields
from lorafinetune_stages.prepare.findings import Place
from lorafinetune_stages.prepare.formats import (
    FORMATS,
    FormatName,
    Reader,
    columns_of,
    formats_of,
    is_whole,
    recognise,
    tells,
    turn_keys,
)

Row = Mapping[str, Any]


class Advice(NamedTuple):
    """On a row of no format. verdict: what is wrong with it. hint: what would mend it."""

    verdict: str
    hint: str


def find_reader(
    dataset: Dataset, index: int, rows: Sequence[tuple[Place, Row]], objective: Objective = "sft"
) -> Reader:
    """The reader of a file whose first rows are given; index: of the dataset, for messages.

    Raises StageError(DatasetInvalid) where they are not of the declared format, or of none, and where the
    dataset names a column that the format has not.
    """
    telling = next((row for _, row in rows if tells(dataset, row, objective)), None)
    name = dataset.format
    if name == "auto":
        if telling is None:
            raise _of_no_format(dataset.columns, index, *rows[0], objective)
        (name,) = recognise(telling, dataset.columns, objective)
    elif telling is None:
        raise _not_as_declared(name, dataset.columns, index, *rows[0], objective)
    check_used(name, dataset.columns, index)
    return Reader(name, columns_of(name, dataset.columns), recognised=dataset.format == "auto")


def _not_as_declared(
    name: FormatName, own: Columns, index: int, place: Place, row: Row, objective: Objective
) -> StageError:
    if looks := " or ".join(recognise(row, own, objective)):
        advice = Advice(f"looks like {looks}", f"Set datasets[{index}].format to {looks}.")
    else:
        hint = f"Set datasets[{index}].format, or name the columns in its columns."
        generic = Advice(f"{name} needs {_needs(name, own)}", hint)
        advice = _advice(row, own, index, objective, name) or generic
    return StageError(
        Reason.DATASET_INVALID,
        f"datasets[{index}].format: declared {name}, but {place} has {told_fields(row)}: {advice.verdict}",
        advice.hint,
    )


def _of_no_format(own: Columns, index: int, place: Place, row: Row, objective: Objective) -> StageError:
    evidence = f"{place} has {told_fields(row)}"
    advice = _advice(row, own, index, objective)
    other = _of_another(row, own, objective)
    if other and not (advice and other == "text"):  # a column of text stands beside many things
        return _for_another(index, evidence, other)
    verdict, hint = advice or _undecided(row, own, index, objective)
    return _unknown(index, f"{evidence}: {verdict}", hint)


def _unknown(index: int, what: str, hint: str) -> StageError:
    return StageError(
        Reason.DATASET_INVALID, f"datasets[{index}].format: auto can't tell the format: {what}", hint
    )


def _undecided(row: Row, own: Columns, index: int, objective: Objective) -> Advice:
    """Where nothing better is known."""
    names = recognise(row, own, objective)
    needs = "; ".join(f"{name} needs {_needs(name, own)}" for name in formats_of(objective))
    return Advice(
        f"could be {' or '.join(names)}" if names else f"fits no format ({needs})",
        f"Set datasets[{index}].format, and name the columns in its columns where they differ.",
    )


def _advice(
    row: Row, own: Columns, index: int, objective: Objective, declared: FormatName | None = None
) -> Advice | None:
    """Where another file would do, or a name for one column. declared: the format, if it is."""
    if recognise(row, own, objective):
        return None
    lists = [column for column, value in row.items() if isinstance(value, list) and value]
    for column in lists:
        if isinstance(row[column][0], dict) and recognise(row[column][0], own, objective):
            name = printable_name(column)
            hint = f"Make the list in {name} the file itself, or write one row in each line of it."
            return Advice(f"the rows are in {name}, within another object", hint)
    key = "prompt" if objective == "dpo" else "messages"
    for column in lists:
        names = recognise(row, own.model_copy(update={key: column}), objective)
        if len(names) == 1 and column not in _answers(own, objective):
            other = f" and `datasets[{index}].format: {names[0]}`" if declared not in (None, *names) else ""
            hint = f"Set `datasets[{index}].columns.{key}: {printable_name(column)}`{other}."
            return Advice(f"{names[0]} lacks its {key}", hint)
    return None


def _answers(own: Columns, objective: Objective) -> set[str | None]:
    """The columns of a pair that hold no prompt, for an objective that learns from pairs."""
    columns = columns_of("preference", own)
    return {columns.response, columns.rejected} if objective == "dpo" else set()


def _of_another(row: Row, own: Columns, objective: Objective) -> FormatName | None:
    """The format of another objective that a row is of, where it is of none of this one's. Two answers are
    for no other."""
    answers = _answers(own, objective)
    if recognise(row, own, objective) or (answers and answers <= row.keys()):
        return None
    return next((name for name in FORMATS if is_whole(name, row, own)), None)


def _for_another(index: int, evidence: str, name: FormatName) -> StageError:
    objective = FORMATS[name].objective
    return StageError(
        Reason.DATASET_INVALID,
        f"datasets[{index}].format: {evidence}: that is {name}, for training.objective: {objective}",
        f"Set `spec.training.objective: {objective}`, or name the columns in datasets[{index}].columns.",
    )


def _needs(name: FormatName, own: Columns) -> str:
    columns = columns_of(name, own)
    if not FORMATS[name].turn:
        return joined(FORMATS[name].needed(columns))
    return f"{columns.messages}, a list of objects with {' and '.join(turn_keys(name, columns))}"

"""The formats: how each is recognised, and how its rows become conversations.

alpaca and sharegpt become what LLaMA-Factory's own converters make of them with the columns named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from lorafinetune.api.datasets import Columns, Dataset
from lorafinetune.api.training import Objective
from lorafinetune_stages.prepare import messages, pairs, plain
from lorafinetune_stages.prepare.conversation import Conversation
from lorafinetune_stages.prepare.findings import Kind, RowError
from lorafinetune_stages.prepare.plain import Pack
from lorafinetune_stages.prepare.preference import is_conversation, preference
from lorafinetune_stages.prepare.tables import TableColumns
from lorafinetune_stages.prepare.texts import Texts, type_name

FormatName = Literal["alpaca", "sharegpt", "openai", "singleTurn", "multiTurn", "preference", "text"]
Convert = Callable[[Mapping[str, Any], Columns, Texts], Conversation]


@dataclass(frozen=True)
class RowFormat:
    """columns: names of the columns where the dataset names none. turn: keys of one turn, by which
    formats with a list of turns are told apart; empty for a format without. needs: which columns tell
    such a format. holding: those that may hold all of a row as conversations. objective: what its rows are
    for. also: columns that it has where the dataset names them. packer: makes what makes the same as
    `convert` of plain rows."""

    columns: Columns
    convert: Convert
    packer: Callable[[Columns], Pack] | None
    turn: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("prompt", "response")
    holding: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    objective: Objective = "sft"

    @property
    def reads(self) -> list[str]:
        """All columns that it has."""
        return [*self.columns.model_dump(exclude_none=True), *self.also]

    def needed(self, columns: Columns) -> list[str]:
        """The names of the columns that tell a format without turns."""
        return [getattr(columns, name) for name in self.needs]

    def is_held(self, row: Mapping[str, Any], columns: Columns) -> bool:
        """Whether a row has no more than its conversations, and needs no more."""
        return bool(self.holding) and all(
            is_conversation(row.get(getattr(columns, name))) for name in self.holding
        )


FORMATS: Final[dict[FormatName, RowFormat]] = {
    "alpaca": RowFormat(
        Columns(prompt="instruction", query="input", response="output", history="history", system="system"),
        pairs.alpaca,
        plain.pair_packer,
        also=("tools",),
    ),
    "sharegpt": RowFormat(
        Columns(messages="conversations", system="system", tools="tools"),
        messages.sharegpt,
        plain.sharegpt_packer,
        ("from", "value"),
    ),
    "openai": RowFormat(
        Columns(messages="messages", system="system", tools="tools"),
        messages.openai,
        plain.openai_packer,
        ("role", "content"),
    ),
    "singleTurn": RowFormat(
        Columns(prompt="prompt", response="completion", system="system"),
        pairs.alpaca,
        plain.pair_packer,
        also=("query", "history", "tools"),
    ),
    "multiTurn": RowFormat(
        Columns(messages="conversation", prompt="input", response="output", system="system"),
        pairs.multi_turn,
        plain.turns_packer,
        ("prompt", "response"),
    ),
    "preference": RowFormat(
        Columns(
            prompt="prompt",
            query="input",
            response="chosen",
            rejected="rejected",
            history="history",
            system="system",
            tools="tools",
        ),
        preference,
        None,
        needs=("prompt", "response", "rejected"),
        objective="dpo",
        holding=("response", "rejected"),
    ),
    "text": RowFormat(
        Columns(text="text"), pairs.plain_text, plain.text_packer, needs=("text",), objective="pt"
    ),
}


@dataclass(frozen=True)
class Reader:
    """Turns the rows of one file into conversations. recognised: whether the format was not declared."""

    format: FormatName
    columns: Columns
    recognised: bool

    def convert(self, row: Any, texts: Texts) -> Conversation:
        """Raises RowError."""
        if not isinstance(row, dict):
            raise RowError(Kind.NOT_AN_OBJECT, "", f"the row is {type_name(row)}, not an object")
        return FORMATS[self.format].convert(row, self.columns, texts)

    def packer(self) -> Pack | None:
        """What packs plain rows, if there is such a thing."""
        make = FORMATS[self.format].packer
        return make(self.columns) if make else None


MAY_LACK: Final = ("query", "history", "system", "tools")


def columns_of(name: FormatName, own: Columns) -> Columns:
    """The names of a format's columns: the dataset's own where it names them. What a format may have and
    need not is not read where one of those is something else."""
    named = own.model_dump(exclude_none=True)
    usual = FORMATS[name].columns.model_dump()
    unread = {key: None for key in MAY_LACK if usual[key] in named.values()}
    return FORMATS[name].columns.model_copy(update=unread | named)


def formats_of(objective: Objective) -> list[FormatName]:
    """The formats that an objective learns from."""
    return [name for name, known in FORMATS.items() if known.objective == objective]


def table_columns(dataset: Dataset, objective: Objective = "sft") -> TableColumns:
    """What is read of a table: the columns of the declared format, or of all that the objective knows."""
    names = formats_of(objective) if dataset.format == "auto" else [dataset.format]
    read = [columns_of(name, dataset.columns) for name in names]
    known = {column for columns in read for column in columns.model_dump().values() if column}
    lists = {column for columns in read for column in (columns.messages, columns.history) if column}
    texts = dataset.columns.model_dump(exclude={"messages", "history"}, exclude_none=True).values()
    pairs = columns_of("preference", dataset.columns) if "preference" in names else Columns()
    either = {column for column in (pairs.prompt, pairs.response, pairs.rejected) if column}
    return TableColumns(known, lists - set(texts), either)


def tells(dataset: Dataset, row: Any, objective: Objective = "sft") -> bool:
    """Whether the row is one of the declared format, or of one format of the objective alone."""
    if not isinstance(row, dict):
        return False
    if dataset.format != "auto":
        return _fits(dataset.format, row, dataset.columns)
    return len(recognise(row, dataset.columns, objective)) == 1


def recognise(row: Mapping[str, Any], columns: Columns, objective: Objective = "sft") -> list[FormatName]:
    """Every format of the objective that the row is a whole row of."""
    names = [name for name in formats_of(objective) if is_whole(name, row, columns)]
    if columns.prompt and columns.response and {"alpaca", "singleTurn"} <= set(names):
        names.remove("singleTurn")  # with both columns named, alpaca reads all that singleTurn does
    return names


def is_whole(name: FormatName, row: Mapping[str, Any], own: Columns) -> bool:
    """Whether the row has all that tells the format. own: the columns that the dataset names."""
    columns = columns_of(name, own)
    if not FORMATS[name].turn:
        needed = all(column in row for column in FORMATS[name].needed(columns))
        return own.messages is None and (needed or FORMATS[name].is_held(row, columns))
    turns = row.get(columns.messages or "")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return False
    return all(key in turns[0] for key in turn_keys(name, columns))


def turn_keys(name: FormatName, columns: Columns) -> tuple[str, ...]:
    """What every turn of the format has."""
    if name == "multiTurn":
        return (columns.prompt or "", columns.response or "")
    return FORMATS[name].turn


def _fits(name: FormatName, row: Mapping[str, Any], own: Columns) -> bool:
    """Whether the row may be one of the format, even if a bad one."""
    columns = columns_of(name, own)
    if not FORMATS[name].turn:
        return any(name in row for name in FORMATS[name].needed(columns))
    turns = row.get(columns.messages or "")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return columns.messages in row
    return any(key in turns[0] for key in turn_keys(name, columns))

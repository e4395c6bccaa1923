"""The datasets of a LoRAFineTune, and what is done to their rows."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lorafinetune.api.sources import DATASET_SOURCE, Revision, plain_path
from lorafinetune.api.types import DecimalString, Fraction, Label, Model, Rule, form

Column = Annotated[str, Field(min_length=1, max_length=128)]
Samples = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Columns(Model):
    """Names of the columns, where they differ from the format's own."""

    prompt: Column | None = None
    """The human turn (`instruction` in alpaca, `prompt` in singleTurn and preference, `input` in
    multiTurn)."""
    query: Column | None = None
    """Text appended to the human turn (`input` in alpaca and preference)."""
    response: Column | None = None
    """The answer (`output` in alpaca and multiTurn, `completion` in singleTurn, `chosen` in preference)."""
    rejected: Column | None = None
    """The answer to which the other one is preferred (`rejected` in preference)."""
    text: Column | None = None
    """The whole of a plain text (`text` in text)."""
    history: Column | None = None
    """Earlier turns as pairs (`history` in alpaca and preference)."""
    messages: Column | None = None
    """The list of turns (`conversations`, `messages`, `conversation`)."""
    system: Column | None = None
    """The row's own system prompt (`system`)."""
    tools: Column | None = None
    """Tool descriptions (`tools` in sharegpt, openai and preference)."""


class Replace(Model):
    """One pattern, and what stands in place of its matches."""

    pattern: Annotated[str, Field(min_length=1, max_length=512)]
    """Regular expression in RE2's syntax, which has flags like `(?i)`, but no look-around."""
    replacement: Annotated[str, Field(max_length=256)] = ""
    """Plain text in place of every match. Absent: the match is removed."""


class Clean(Model):
    """Cleaning of the answers, or of plain texts, in this order. Prompts are never touched."""

    remove: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], Field(max_length=32)
    ] = ()
    """Texts that are removed wherever they occur."""
    drop_intro_line: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """An answer that contains this text is stripped, loses its first line, and is stripped again."""
    replace: Annotated[tuple[Replace, ...], Field(max_length=16)] | None = None
    """Patterns that are replaced, one after the other, each in time linear in the length of the answer."""


class Dataset(Model):
    """One dataset; datasets are merged in the order of the list."""

    rules: ClassVar = (
        plain_path("source"),
        Rule("self.onBadRow == 'skip' || !has(self.maxBadFraction)", "maxBadFraction needs onBadRow: skip"),
        Rule("!has(self.weight) || double(self.weight) > 0.0", "weight must be above 0", ".weight"),
        Rule(
            "!has(self.connection) || !self.source.startsWith('https://')",
            "an https:// source has no connection: it is fetched without credentials",
            ".connection",
        ),
    )

    name: Label | None = None
    """Name by which `training.evaluation.dataset` refers to this dataset."""
    source: Annotated[
        str,
        Field(pattern=DATASET_SOURCE, max_length=1024),
        form(
            "s3://BUCKET/KEY, s3://BUCKET/PREFIX/, hf://OWNER/NAME[/FILE], modelscope://OWNER/NAME[/FILE], "
            "https://HOST/FILE without user, query or fragment, or file://PATH"
        ),
    ]
    """`s3://BUCKET/KEY` (a file, or a prefix that ends in `/`), `hf://OWNER/NAME[/FILE]`,
    `modelscope://OWNER/NAME[/FILE]`, `https://HOST/FILE` where the installation allows the host, or, in local
    runs only, `file://PATH`. A hub's FILE may be a pattern: `*` stands for any characters but `/`."""
    revision: Revision | None = None
    """Branch, tag or commit of a hub's repository."""
    connection: Label | None = None
    """Connection used to fetch the dataset."""
    format: Literal[
        "auto", "alpaca", "sharegpt", "openai", "singleTurn", "multiTurn", "preference", "text"
    ] = "auto"
    """Shape of the rows. `auto` recognises it, or refuses and says what it saw. `preference` is for
    `training.objective: dpo` alone, `text` for `pt`, and the others for `sft`."""
    columns: Columns = Columns()
    """Names of the columns, where they differ from the format's own."""
    system: Annotated[str, Field(min_length=1, max_length=8192)] | None = None
    """System prompt that replaces the rows' own. Absent: a row's own is kept."""
    clean: Clean = Clean()
    """Cleaning of the answers."""
    max_samples: Samples | None = None
    """Only the first N rows are used."""
    weight: DecimalString | None = None
    """With `training.sampling: proportional`: the dataset's share is its rows times this number, like
    `"2"` or `"0.5"`; absent means 1. No row is taken twice, so the share of the others shrinks."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """What a row that can't be learned from does: fails the run, or is left out and counted."""
    max_bad_fraction: Fraction | None = None
    """With `onBadRow: skip`: the run fails when more than this share of the rows is bad."""

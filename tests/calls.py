"""How every command is called, and what no end of a command may look like.

The commands and their parameters are those that the program itself knows.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from typer.main import get_command

from forked import Ended
from lorafinetune.cli.output import Format
from lorafinetune.cli.program import EXIT_CODES, app

COMMANDS: Final[Mapping[str, Any]] = vars(get_command(app))["commands"]
CODES: Final = {int(code) for code in re.findall(r"\b(\d+) [a-z]", EXIT_CODES)}
"""Those that the reference page documents."""
FILE: Final = "tune.yaml"
ENDED: Final = "run.yaml"
"""The file of a run that has come to its end."""
READERS: Final[Mapping[str, Callable[[str], object]]] = {"json": json.loads, "yaml": yaml.safe_load}


@dataclass(frozen=True)
class Row:
    """Arguments with which a command does what it is for. here: without a cluster; there: on one, where there
    are runs `tune` and `other`. None: it is not for that."""

    here: tuple[str, ...] | None = None
    there: tuple[str, ...] | None = None


ROWS: Final = {
    "init": Row(here=("--model", "owner/name", "--data", "s3://data/rows.jsonl", "--to", "-")),
    "validate": Row(here=(FILE,)),
    "run": Row(here=(FILE,)),
    "render": Row(here=(FILE,)),
    "explain": Row(here=()),
    "crd": Row(here=()),
    "apply": Row(there=(FILE, "--force-conflicts")),
    "list": Row(there=()),
    "watch": Row(there=("tune",)),
    "logs": Row(there=("tune",)),
    "suspend": Row(there=("tune",)),
    "resume": Row(there=("tune",)),
    "fetch": Row(here=(ENDED,), there=("tune",)),
    "chat": Row(here=(ENDED, "Hi"), there=("tune", "Hi")),
    "diff": Row(here=(ENDED, ENDED), there=("tune", "other")),
    "report": Row(here=(ENDED,), there=("tune",)),
    "gc": Row(here=(FILE,), there=(FILE, "--s3", "--secrets", "secrets")),
}


def takes(command: str, *parameters: str) -> bool:
    """Whether a command has one of these parameters."""
    return any(each.name in parameters for each in COMMANDS[command].params)


def here(command: str) -> tuple[str, ...]:
    return (command, *(ROWS[command].here or ()))


def there(command: str) -> tuple[str, ...]:
    return (command, *(ROWS[command].there or ()))


def forms(command: str) -> tuple[tuple[str, ...], ...]:
    """The options with which what is printed has another form: each that the command offers."""
    offered = [
        form for each in COMMANDS[command].params if each.name == "form" for form in type(each.default)
    ]
    return ((), *(("-o", str(form)) for form in offered if form != Format.TEXT))


def is_a_sentence(ended: Ended) -> bool:
    """One line that says what is wrong and what to do, and on standard output nothing."""
    return not ended.out and bool(re.fullmatch(r"[^\n]+: [^\n]+\. [A-Z`][^\n]+\n", ended.err))


def is_a_list_of_faults(ended: Ended) -> bool:
    """What is wrong as the result that was asked for, and on standard error nothing."""
    return not ended.err and all(fault["message"] for fault in yaml.safe_load(ended.out))


def is_decent(ended: Ended, *options: str) -> bool:
    """What holds however a command ends: a documented code, no traceback, and no half of a JSON or YAML."""
    for form, reads in READERS.items():
        if form in options and ended.out:
            reads(ended.out)
    return ended.code in CODES and "Traceback" not in ended.out + ended.err

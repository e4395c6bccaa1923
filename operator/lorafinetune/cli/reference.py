"""The reference page of the command line, made from the commands: `python -m lorafinetune.cli.reference`."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from lorafinetune.cli.options import HERE, KEPT, THERE
from lorafinetune.cli.program import EXIT_CODES, app

PROGRAM: Final = "lorafinetune"
INTRODUCTION: Final = f"""# Command line reference

<!-- Generated from the commands by `make generate`. -->

`{PROGRAM} COMMAND`, or `kubectl finetune COMMAND`: with `{PROGRAM}` on the `PATH`, kubectl finds it. The
commands that speak with a cluster need `pip install '.[cluster]'`. `--context`, `--namespace` and
`--kubeconfig` mean what they mean to kubectl. Without a terminal, or with `NO_COLOR`, nothing is coloured.

{EXIT_CODES}
"""


def page() -> str:
    """The page as Markdown."""
    group: Any = get_command(app)
    context = typer.Context(group, info_name=PROGRAM)
    commands = [
        get_docs_for_click(obj=command, ctx=context, indent=1, name=name, call_prefix=PROGRAM)
        for name, command in group.commands.items()
    ]
    tables = "\n".join(_table(group.commands, panel) for panel in (HERE, THERE, KEPT))
    return "\n".join([INTRODUCTION, tables, *(text.rstrip() + "\n" for text in commands)])


def _table(commands: dict[str, Any], panel: str) -> str:
    return f"## {panel}\n\n| command | |\n|---|---|\n{''.join(_rows(commands, panel))}"


def _rows(commands: dict[str, Any], panel: str) -> Iterator[str]:
    for name, command in commands.items():
        if command.rich_help_panel == panel:
            first = " ".join(command.help.partition("\n\n")[0].split())
            yield f"| [`{name}`](#{PROGRAM}-{name}) | {first} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())

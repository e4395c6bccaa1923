"""What the shell offers when somebody presses Tab, in `lorafinetune` and in `kubectl finetune`."""

import os
import shlex
import sys
from typing import Final

from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.errors import CommandError

NO_FILES: Final = ":4"
"""How kubectl is told not to offer the files of the folder."""


def names_of_runs(access: Access, incomplete: str) -> list[str]:
    """Names of the runs in a namespace that begin so; none where the cluster can't be asked."""
    try:
        cluster = connect(access)
        names = [run["metadata"]["name"] for run in cluster.list("lorafinetunes", cluster.namespace)]
    except CommandError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def main() -> None:
    """`kubectl_complete-finetune`: kubectl calls it with the words so far, and reads a word a line."""
    from lorafinetune.cli.main import app

    words = ["lorafinetune", *sys.argv[1:]]
    os.environ |= {
        "_LORAFINETUNE_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    try:
        app(prog_name="lorafinetune")
    finally:
        sys.stdout.write(f"{NO_FILES}\n")

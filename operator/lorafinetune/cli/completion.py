"""What the shell offers when somebody presses Tab, in `lorafinetune` and in `kubectl finetune`."""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorafinetune.api import PLURAL
from lorafinetune.cli.cluster import Cluster, Response
from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.program import app

NO_FILES: Final = ":4"
"""How kubectl is told not to offer the files of the folder."""


PATIENCE_SECONDS: Final = 1


def names_of_runs(access: Access, incomplete: str) -> list[str]:
    """Names of the runs in a namespace that begin so; none where the cluster can't be asked."""
    try:
        cluster = _impatient(connect(access))
        names = [run["metadata"]["name"] for run in cluster.list(PLURAL, cluster.namespace)]
    except CommandError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _impatient(cluster: Cluster) -> Cluster:
    """The cluster asked by somebody who waits at a prompt."""

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None, quiet: float) -> Response:
        return cluster.send(method, url, headers, body, min(quiet, PATIENCE_SECONDS))

    return replace(cluster, send=send)


def main() -> None:
    """`kubectl_complete-finetune`: kubectl calls it with the words so far, and reads a word a line."""
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

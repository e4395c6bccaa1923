"""A run as a person names it: a file with its status, or a name on the cluster."""

import re
from pathlib import Path
from typing import Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.types import LABEL_PATTERN, SUBDOMAIN_PATTERN
from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.document import read_resource
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.runs import decoded

SUFFIXES: Final = (".yaml", ".yml", ".json")


def run_named(name: str, access: Access) -> LoRAFineTune:
    """The run with its status. Raises CommandError."""
    if is_file(name):
        return read_resource(Path(name))
    try:
        return _on_cluster(name, access)
    except CommandError as problem:
        if "/" not in name:
            raise
        reason, _, message = problem.message.partition(": ")
        told = f"{reason}: there is no file {name}, and {message}"
        raise CommandError(told, problem.code) from None


def is_file(name: str) -> bool:
    """Whether a file is meant, which may be missing; `-` is standard input. A path of one folder may be the
    name of a run in its namespace too."""
    namespace, slash, bare = name.rpartition("/")
    may_be_run = re.match(LABEL_PATTERN, namespace) and re.match(SUBDOMAIN_PATTERN, bare)
    is_path = name.endswith(SUFFIXES) or (slash and not may_be_run)
    return name == "-" or Path(name).is_file() or bool(is_path)


def refuse_path(name: str) -> None:
    """For commands about what a cluster alone has. Raises CommandError where a file is meant."""
    if "/" in name or name.endswith(SUFFIXES):
        told = f"ConfigInvalid: {name} is no name of a run on the cluster"
        raise CommandError(f"{told}. Give NAME alone, and its namespace with --namespace.")


def _on_cluster(name: str, access: Access) -> LoRAFineTune:
    namespace, _, bare = name.rpartition("/")
    cluster = connect(Access(access.context, namespace or access.namespace, access.kubeconfig))
    return decoded(cluster.run(bare))

"""A run as a person names it: a file with its status, or a name on the cluster."""

from pathlib import Path

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.document import read_resource
from lorafinetune.cli.reading import decoded


def run_named(name: str, access: Access) -> LoRAFineTune:
    """The run with its status. Raises CommandError, and ApiError where a cluster is asked."""
    return read_resource(Path(name)) if is_file(name) else _on_cluster(name, access)


def is_file(name: str) -> bool:
    """Whether a file is meant, which may be missing; `-` is standard input."""
    return name == "-" or Path(name).is_file() or name.endswith((".yaml", ".yml", ".json"))


def _on_cluster(name: str, access: Access) -> LoRAFineTune:
    namespace, _, bare = name.rpartition("/")
    cluster = connect(Access(access.context, namespace or access.namespace, access.kubeconfig))
    return decoded(cluster.run(bare))

"""`lorafinetune apply`: checks a file as `validate` does, and brings it to the cluster."""

from pathlib import Path

from lorafinetune.cli.cluster import ApiError, Cluster, Object
from lorafinetune.cli.connection import Access, connect
from lorafinetune.cli.document import ResourceFile
from lorafinetune.cli.errors import CommandError
from lorafinetune.cli.output import Format, emit, full_name, output, printed
from lorafinetune.cli.validate import read_valid


def apply_file(file: Path, access: Access, force: bool, form: Format) -> tuple[Cluster, str]:
    """Makes or changes the run of a file. Returns where it is, and its name. Raises CommandError."""
    given = read_valid(file, local=False)
    cluster = connect(_within(access, given))
    name = given.resource.metadata.name
    before = _version(cluster, name)
    after = cluster.apply(name, given.value, force)
    if form is Format.TEXT:
        output.print(f"{full_name(name)} {_what_happened(before, after)}")
    else:
        emit(printed([after], form))
    return cluster, name


def _within(access: Access, given: ResourceFile) -> Access:
    """The file's namespace counts, and a flag may not contradict it."""
    wanted = given.namespace
    if access.namespace and wanted and access.namespace != wanted:
        raise CommandError(
            f"ConfigInvalid: the file says namespace {wanted}, the flag {access.namespace}. "
            f"Pass --namespace {wanted}, or take it out of the file."
        )
    return Access(access.context, access.namespace or wanted, access.kubeconfig)


def _version(cluster: Cluster, name: str) -> str:
    try:
        return str(cluster.run(name)["metadata"]["resourceVersion"])
    except ApiError as problem:
        if problem.status == 404:
            return ""
        raise


def _what_happened(before: str, after: Object) -> str:
    if not before:
        return "created"
    return "unchanged" if after["metadata"]["resourceVersion"] == before else "configured"

"""`lorafinetune init`: a good YAML from a model and a dataset; the rest has defaults."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from lorafinetune.api import API_VERSION, KIND
from lorafinetune.api.codec import InvalidResourceError, decode
from lorafinetune.api.sources import HUBS, HUGGING_FACE, LOCAL, S3
from lorafinetune.api.training import BATCH_SIZE
from lorafinetune.cli.errors import CommandError, sentence, unusable
from lorafinetune.cli.kubeyaml import dump
from lorafinetune.cli.output import emit, output
from lorafinetune.contract.https import ANYWHERE
from lorafinetune.core.checks import first_violation
from lorafinetune.core.jobs import Settings

HUB_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
STORE: Final = "store"
HUB: Final = "hub"
LONGEST_NAME: Final = 40

HEADER: Final = """\
# lorafinetune validate {file}    what is wrong with it, with line and field
# lorafinetune run {file}         all of it on this machine, {with_what}
# lorafinetune apply {file}       the same on Kubernetes
"""
LOCAL_HEADER: Final = """\
# lorafinetune validate --local {file}    what is wrong with it, with line and field
# lorafinetune run {file}                 all of it on this machine, {with_what}
# For Kubernetes, put what is at file:// into a store or on a hub.
"""
ON_THE_CPU: Final = "with no cluster"
ON_A_GPU: Final = "with no cluster; without a GPU, set gpu.count: 0 below"
NO_GPU: Final = ". This machine has no NVIDIA GPU: before a run on it, set resources.train.gpu.count: 0."
DEVICES: Final = Path("/dev")
STANDARD_OUTPUT: Final = "-"
COMMENTS: Final = {
    "connections": "How the store and the hub are reached; a Secret holds the credentials.",
    "model": "The base model. `template` is inferred where the model has a chat template.",
    "datasets": "Merged in this order. The format of the rows is recognised: alpaca, sharegpt, openai, "
    "singleTurn, multiTurn.",
    "training": "A tenth of the rows is held out, to see whether the model learns or memorises.",
    "export": "The adapter is always kept; this merges it into the base model too.",
    "storage": "Where every stage leaves its output. In a local run a directory stands in for S3.",
    "resources": "gpu.count: 0 trains on the CPU; gpu.memory lets a run that can't fit be refused early.",
}


@dataclass(frozen=True)
class InitOptions:
    """What a person wants; empty: the default. secret: of the store, token_secret: of the hub."""

    model: str
    data: Sequence[str]
    name: str = ""
    namespace: str = ""
    storage: str = ""
    endpoint: str = ""
    secret: str = ""
    token_secret: str = ""
    gpus: int = 1


def asked(given: str, option: str, what: str) -> str:
    """What was given, or what a person at a terminal answers. Raises CommandError where there is nobody."""
    if given:
        return given
    if not sys.stdin.isatty():
        raise CommandError(f"ConfigInvalid: the {what} is missing. Give {option}.")
    try:
        return str(typer.prompt(what))
    except typer.Abort:
        raise KeyboardInterrupt from None


def text(options: InitOptions, file: str) -> str:
    """The YAML with its comments. Raises CommandError where a wish can't be met. file: its own name."""
    resource = document(options)
    _check(resource)
    head = {name: value for name, value in resource.items() if name != "spec"}
    parts = [f"  # {COMMENTS[name]}\n{_indented(dump({name: value}))}" for name, value in _sections(resource)]
    header = LOCAL_HEADER if _is_local(resource) else HEADER
    told = header.format(file=file, with_what=ON_A_GPU if options.gpus else ON_THE_CPU)
    return f"{told}{dump(head)}spec:\n{''.join(parts)}"


def document(options: InitOptions) -> dict[str, Any]:
    """The resource as YAML gives it."""
    model = model_source(options.model)
    data = [data_source(given) for given in options.data]
    name = options.name or default_name(model)
    storage = options.storage or f"{S3}finetunes/{name}"
    connections = list(_connections(options))
    names = {each["name"] for each in connections}
    spec = {
        "connections": connections,
        "model": {"source": model} | _connection(model, names),
        "datasets": [{"source": source} | _connection(source, names) for source in data],
        "training": {
            "lora": {"rank": 8, "alpha": 16},
            "epochs": "3",
            "learningRate": "1e-4",
            "warmupRatio": "0.1",
            "batchSize": _batch_size(options.gpus),
            "cutoffLength": 2048,
            "evaluation": {"fraction": "0.1", "everySteps": 50},
        },
        "export": {"merged": {"maxShardSize": "2GB"}},
        "storage": {"uri": storage} | _connection(storage, names),
        "resources": {"train": {"gpu": {"count": options.gpus}}},
    }
    metadata = {"name": name} | ({"namespace": options.namespace} if options.namespace else {})
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _is_local(resource: dict[str, Any]) -> bool:
    """Whether a source is a path of this machine, which no cluster has."""
    sources = (resource["spec"]["model"], *resource["spec"]["datasets"])
    return any(each["source"].startswith(LOCAL) for each in sources)


def _has_gpu() -> bool:
    """Whether this machine shows a GPU of NVIDIA."""
    return any(DEVICES.glob("nvidia[0-9]*"))


def _batch_size(gpus: int) -> int:
    """The usual, or the next that GPUs can share."""
    return -(-BATCH_SIZE // max(gpus, 1)) * max(gpus, 1)


def model_source(given: str) -> str:
    """A URI as it is, a directory as `file://`, and `OWNER/NAME` as one of Hugging Face."""
    if "://" in given:
        return given
    if Path(given).is_dir():
        return f"{LOCAL}{Path(given).resolve()}"
    if HUB_NAME.fullmatch(given):
        return f"{HUGGING_FACE}{given}"
    raise CommandError(f"ModelNotFound: {given} is no directory, and no OWNER/NAME of a hub. Mend --model.")


def data_source(given: str) -> str:
    """A URI as it is, and a file as `file://`."""
    if "://" in given:
        return given
    if Path(given).is_file():
        return f"{LOCAL}{Path(given).resolve()}"
    raise CommandError(
        f"DatasetNotFound: there is no file {given}. Mend --data: a file, or a URI like s3://BUCKET/KEY."
    )


def default_name(model: str) -> str:
    """The model's own name as Kubernetes takes names."""
    name = re.sub(r"[^a-z0-9-]+", "-", model.rstrip("/").rpartition("/")[2].lower())
    return name[:LONGEST_NAME].strip("-") or "finetune"


def _connections(options: InitOptions) -> Iterator[dict[str, Any]]:
    if options.endpoint or options.secret:
        endpoint = {"endpoint": options.endpoint} if options.endpoint else {}
        yield {"name": STORE} | endpoint | _secret(options.secret)
    if options.token_secret:
        yield {"name": HUB} | _secret(options.token_secret)


def _secret(name: str) -> dict[str, Any]:
    return {"secretRef": {"name": name}} if name else {}


def _connection(source: str, names: set[str]) -> dict[str, str]:
    wanted = HUB if source.startswith(HUBS) else STORE if source.startswith(S3) else ""
    return {"connection": wanted} if wanted in names else {}


def _sections(resource: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in resource["spec"].items() if value]


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _check(resource: dict[str, Any]) -> None:
    try:
        violation = first_violation(decode(resource), Settings(local=True, https=ANYWHERE))
    except InvalidResourceError as invalid:
        raise CommandError("\n".join(map(str, invalid.problems))) from None
    if violation:
        raise CommandError(sentence(violation))


def write(options: InitOptions, to: str) -> None:
    """Writes the file, which must not exist, and says where; `-` is standard output. Raises CommandError."""
    resource = document(options)
    file = to or f"{resource['metadata']['name']}.yaml"
    if file == STANDARD_OUTPUT:
        emit(text(options, "FILE"))
        return
    made = text(options, file)
    try:
        with Path(file).open("x") as opened:
            opened.write(made)
    except FileExistsError:
        raise CommandError(f"ConfigInvalid: {file} exists already. Give another file with --to.") from None
    except OSError as problem:
        raise unusable(problem, "Give another file with --to.") from None
    there = "" if _is_local(resource) else f", or lorafinetune apply {file}"
    edit = NO_GPU if options.gpus and not _has_gpu() else ""
    output.print(f"{file} is written. Next: lorafinetune run {file}{there}{edit}")

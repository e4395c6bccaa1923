"""The commands that read the store of a run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorafinetune.cli.choices import OutputKind
from lorafinetune.cli.options import (
    KEPT,
    RUNS,
    S3,
    SECRETS,
    STORE,
    Context,
    Endpoint,
    FactsOutput,
    File,
    Kubeconfig,
    Namespace,
    SecretsFolder,
    Store,
    complete_name,
)
from lorafinetune.cli.output import FactsFormat, Format
from lorafinetune.report.language import Language

if TYPE_CHECKING:
    from lorafinetune.cli.store import StoreLocation

app = typer.Typer()

SIDE = "A LoRAFineTune with its status in a file, or [NAMESPACE/]NAME on the cluster."
Run = Annotated[str, typer.Argument(metavar="RUN", help=SIDE, autocompletion=complete_name)]
A = Annotated[str, typer.Argument(metavar="A", help=SIDE, autocompletion=complete_name)]
B = Annotated[str, typer.Argument(metavar="B", help=SIDE, autocompletion=complete_name)]
Delete = Annotated[
    bool, typer.Option("--delete", help="Delete what is listed; otherwise nothing is deleted.")
]
WithoutRuns = Annotated[
    bool, typer.Option("--without-runs", help="Delete also where no run of the store is known.")
]
RunsToAsk = Annotated[
    Path, typer.Option("--runs", help="Directory of the local runs that count.", readable=False)
]


@app.command(rich_help_panel=KEPT)
def fetch(
    run: Run,
    what: Annotated[OutputKind, typer.Option(help="Which output.")] = OutputKind.MERGED,
    to: Annotated[Path, typer.Option(help="Directory to make.", readable=False)] = Path("model"),
    form: FactsOutput = FactsFormat.TEXT,
    store: Store = STORE,
    s3: S3 = False,
    endpoint: Endpoint = "",
    secrets: SecretsFolder = SECRETS,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Bring the merged model or the adapter out of the store, every file checked.

    It is refused if it is not what the status tells of any more: if it was replaced or made anew.

    A file must have the status: `kubectl get lft NAME -o yaml`, or a local run's resource.yaml.

    With `-o json` it tells the directory, every file in it with its sha256, and the digest of them all.

    Example: lorafinetune fetch tune --s3 --to model
    """
    from lorafinetune.cli.connection import Access
    from lorafinetune.cli.fetch import fetch as fetch_output
    from lorafinetune.cli.fetch import tell
    from lorafinetune.cli.lookup import run_named

    resource = run_named(run, Access(context, namespace, kubeconfig))
    with _failures():
        fetched = fetch_output(resource, what, to, _where(store, s3, endpoint, secrets))
    tell(fetched, Format(form))


@app.command(rich_help_panel=KEPT)
def chat(
    run: Run,
    questions: Annotated[
        list[str], typer.Argument(metavar="QUESTION", help="Asked one by one; none: they are typed.")
    ] = [],
    system: Annotated[str, typer.Option(help="System prompt for both.")] = "",
    tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 200,
    store: Store = STORE,
    s3: S3 = False,
    endpoint: Endpoint = "",
    secrets: SecretsFolder = SECRETS,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Ask the base model and the tuned one the same questions, side by side.

    Needs the trainer (`pip install '.[train]'`), and takes a GPU where there is one. A file must
    have the status.

    Example: lorafinetune chat lorafinetune-runs/default/tune/resource.yaml "Who are you?"
    """
    from lorafinetune.cli.chat import chat as talk
    from lorafinetune.cli.connection import Access
    from lorafinetune.cli.lookup import run_named

    resource = run_named(run, Access(context, namespace, kubeconfig))
    with _failures():
        sys.exit(talk(resource, questions, system, tokens, _where(store, s3, endpoint, secrets)))


@app.command(rich_help_panel=KEPT)
def diff(
    a: A,
    b: B,
    form: FactsOutput = FactsFormat.TEXT,
    store: Store = STORE,
    s3: S3 = False,
    endpoint: Endpoint = "",
    secrets: SecretsFolder = SECRETS,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Say in what two runs differ: spec, data, lineage, result.

    The lineage is in the store; where that can't be read, it is left out.

    Example: lorafinetune diff tune-a tune-b --s3
    """
    from lorafinetune.cli.connection import Access
    from lorafinetune.cli.diff import diff as print_diff

    access = Access(context, namespace, kubeconfig)
    print_diff((a, b), access, _where(store, s3, endpoint, secrets), Format(form))


@app.command(rich_help_panel=KEPT)
def report(
    run: Run,
    to: Annotated[
        Path | None, typer.Option(help="File to write; NAME.html by default.", readable=False)
    ] = None,
    language: Annotated[Language, typer.Option(help="Language of the page.")] = Language.EN,
    form: FactsOutput = FactsFormat.TEXT,
    store: Store = STORE,
    s3: S3 = False,
    endpoint: Endpoint = "",
    secrets: SecretsFolder = SECRETS,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Write a page about a run: was it worth it, what went in, what it took, and how to load the result.

    One HTML file that loads and runs nothing. A report that is there already is replaced; any other file
    stays.

    Example: lorafinetune report lorafinetune-runs/default/tune/resource.yaml
    """
    from lorafinetune.cli.connection import Access
    from lorafinetune.cli.report import report as write
    from lorafinetune.cli.report import tell

    access = Access(context, namespace, kubeconfig)
    with _failures():
        written = write(run, to, language, access, _where(store, s3, endpoint, secrets))
    tell(written, Format(form))


@app.command(rich_help_panel=KEPT)
def gc(
    file: File,
    delete: Delete = False,
    without_runs: WithoutRuns = False,
    older_than: Annotated[str, typer.Option(help="Keep what is younger, like 12h or 30m.")] = "7d",
    form: FactsOutput = FactsFormat.TEXT,
    runs: RunsToAsk = RUNS,
    store: Store = STORE,
    s3: S3 = False,
    endpoint: Endpoint = "",
    secrets: SecretsFolder = SECRETS,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Show what the store of a file holds that no run refers to, and free it.

    The runs in the folder of --runs count, and with --s3 those of one namespace: it says how many there are
    that use the store, and deletes nothing where there is none. What a run that has not ended may still look
    for is kept.

    Example: lorafinetune gc tune.yaml --s3 --older-than 30d
    """
    from lorafinetune.cli.connection import Access
    from lorafinetune.cli.document import read
    from lorafinetune.cli.gc import Referrers, collect

    given = read(file)
    access = Access(context, namespace or given.namespace, kubeconfig) if s3 else None
    where, referrers = _where(store, s3, endpoint, secrets), Referrers(runs, access, without_runs)
    with _failures():
        collect(given.resource, where, referrers, older_than, delete, Format(form))


def _where(store: Path, s3: bool, endpoint: str, secrets: Path) -> "StoreLocation":
    from lorafinetune.cli.store import StoreLocation

    return StoreLocation(None if s3 else store, endpoint, secrets.expanduser())


@contextmanager
def _failures() -> Iterator[None]:
    """What the store or a Secret is missing, as a sentence."""
    from lorafinetune.cli.errors import refused
    from lorafinetune.contract.outcome import StageError

    try:
        yield
    except StageError as problem:
        raise refused(problem) from None

"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

from lorafinetune.cli.output import FactsFormat, Format, RunFormat
from lorafinetune.contract.arguments import LOCAL_RUNS

STORE: Final = Path("lorafinetune-store")
RUNS: Final = Path(LOCAL_RUNS)
SECRETS: Final = Path("~/.config/lorafinetune/secrets")

HERE: Final = "On this machine"
THERE: Final = "On a cluster"
KEPT: Final = "What the store keeps"

# What can't be read is bad input like any other, and no wrong usage: hence `readable=False`.
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A YAML file with one LoRAFineTune; - reads standard input.", readable=False
    ),
]
Store = Annotated[
    Path,
    typer.Option(
        help="Directory that stands in for every S3 server: s3://BUCKET/KEY is DIR/BUCKET/KEY.",
        readable=False,
    ),
]
S3 = Annotated[bool, typer.Option("--s3", help="Use the S3 servers that the file names, not a directory.")]
Endpoint = Annotated[
    str, typer.Option(help="Address of the S3 server as seen from here; another one for --s3.")
]
SecretsFolder = Annotated[
    Path,
    typer.Option(
        "--secrets", help="Directory with the Secrets that the file names, as DIR/NAME/KEY.", readable=False
    ),
]
RunsFolder = Annotated[
    Path, typer.Option("--runs", help="Directory for logs and scratch files.", readable=False)
]
_OUTPUT: Final = typer.Option("--output", "-o", help="How the result is printed.")
ListOutput = Annotated[Format, _OUTPUT]
RunOutput = Annotated[RunFormat, _OUTPUT]
FactsOutput = Annotated[FactsFormat, _OUTPUT]


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    """Names of runs that begin so, for the shell; nothing where the cluster does not answer in a second."""
    from lorafinetune.cli.completion import names_of_runs
    from lorafinetune.cli.connection import Access

    given = (context.params.get(name) or "" for name in ("context", "namespace", "kubeconfig"))
    return names_of_runs(Access(*given), incomplete)


def complete_reason(incomplete: str) -> list[str]:
    """Reasons that begin so."""
    from lorafinetune.api.reasons import Reason

    return [reason for reason in Reason if reason.lower().startswith(incomplete.lower())]


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run.", autocompletion=complete_name)]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig; the current one by default.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace; the context's own by default.")]
Kubeconfig = Annotated[
    str,
    typer.Option(help="File that says how clusters are reached; $KUBECONFIG or ~/.kube/config by default."),
]

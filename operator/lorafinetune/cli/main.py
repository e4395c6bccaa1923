"""The commands and their exit codes: 0 done, 64 bad input, 75 try again, 85 stopped early, 1 failed."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml
from rich.console import Console

from lorafinetune.api.crd import crd as make_crd
from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.cli.document import DocumentError, read_resource
from lorafinetune.cli.kubeyaml import dump
from lorafinetune.cli.what import What
from lorafinetune.contract.outcome import ExitCode, StageError
from lorafinetune.core.checks import first_violation
from lorafinetune.core.jobs import Settings
from lorafinetune.core.training import render as render_config

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Fine-tune a language model from one YAML file, here or on Kubernetes.",
    epilog="Exit codes: 0 done, 64 bad input, 75 try again, 85 stopped after a checkpoint, 1 a bug.",
)
errors: Final = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
output: Final = Console(highlight=False, soft_wrap=True, markup=False)

STORE: Final = Path("lorafinetune-store")
RUNS: Final = Path("lorafinetune-runs")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A YAML file with one LoRAFineTune.")]
Store = Annotated[
    Path,
    typer.Option(help="Directory that stands in for every S3 server: s3://BUCKET/KEY is DIR/BUCKET/KEY."),
]
S3 = Annotated[bool, typer.Option("--s3", help="Use the S3 servers that the file names, not a directory.")]
SecretsFolder = Annotated[
    Path, typer.Option("--secrets", help="Directory with the Secrets that the file names, as DIR/NAME/KEY.")
]
SECRETS: Final = Path("~/.config/lorafinetune/secrets")


@app.command()
def run(
    file: File,
    store: Store = STORE,
    s3: S3 = False,
    runs: Annotated[Path, typer.Option(help="Directory for logs and scratch files.")] = RUNS,
    secrets: SecretsFolder = SECRETS,
) -> None:
    """Run all stages on this machine: download, prepare, train, export.

    Needs no cluster and no account. Ctrl-C stops after a checkpoint; the same command goes on from there.
    What the store has already is not made again.

    Example: lorafinetune run samples/smollm2-emollm.yaml
    """
    from lorafinetune.cli.run import run_resource

    resource = _read(file, local=True)
    sys.exit(run_resource(resource, None if s3 else store, runs, secrets.expanduser()))


@app.command()
def fetch(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A LoRAFineTune with its status; - reads standard input.")
    ],
    what: Annotated[What, typer.Option(help="Which output.")] = What.MERGED,
    to: Annotated[Path, typer.Option(help="Directory to make.")] = Path("model"),
    store: Store = STORE,
    s3: S3 = False,
    endpoint: Annotated[
        str, typer.Option(help="Address of the S3 server as seen from here; another one for --s3.")
    ] = "",
    secrets: SecretsFolder = SECRETS,
) -> None:
    """Bring the merged model or the adapter out of the store, every file checked.

    Example: kubectl get lft tune -o yaml | lorafinetune fetch - --s3 --to model
    """
    from lorafinetune.cli.fetch import fetch as fetch_output

    resource = read_resource(Path("/dev/stdin") if file == Path("-") else file)
    try:
        fetch_output(resource, what, to, None if s3 else store, endpoint, secrets.expanduser())
    except StageError as problem:
        raise DocumentError([_sentence(problem)]) from None
    output.print(f"{what.value} {to}")


@app.command()
def validate(
    file: File,
    local: Annotated[bool, typer.Option("--local", help="Allow what only local runs can do.")] = False,
) -> None:
    """Check a file as far as that is possible without data and model.

    Says everything that is wrong with it, with line and field.

    Example: lorafinetune validate samples/emollm-glm4.yaml
    """
    resource = _read(file, local=local)
    output.print(f"{file}: LoRAFineTune {resource.metadata.name} is valid")


@app.command()
def render(file: File) -> None:
    """Print the LLaMA-Factory arguments that a file leads to.

    Paths, device and micro-batch are missing: they are decided where the training runs, and change no
    result.

    Example: lorafinetune render samples/emollm-glm4.yaml
    """
    resource = _read(file, local=True)
    output.print(yaml.safe_dump(render_config(resource.spec), sort_keys=False, allow_unicode=True), end="")


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition.

    Example: lorafinetune crd | kubectl apply --server-side -f -
    """
    output.print(dump(make_crd()), end="")


def main() -> None:
    """The entry point. Whatever goes wrong ends in a sentence and an exit code."""
    logging.basicConfig(level=os.environ.get("LORAFINETUNE_LOG", "WARNING"))
    try:
        app()
    except DocumentError as problem:
        for line in problem.lines:
            errors.print(line, style="red")
        sys.exit(ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(ExitCode.STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.DONE)


def _read(file: Path, local: bool) -> LoRAFineTune:
    resource = read_resource(file)
    if violation := first_violation(resource, Settings(local=local)):
        raise DocumentError([f"{file}: {_sentence(violation)}"])
    return resource


def _sentence(error: StageError) -> str:
    return f"{error.reason}: {error.message}. {error.hint}"

"""The entry point, the commands that need no cluster, and what an error looks like."""

import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, Never

import typer
from typer.core import TyperGroup, TyperOption

from lorafinetune.api.problem import PYDANTIC_PREFIX
from lorafinetune.cli import cluster_commands, store_commands
from lorafinetune.cli.errors import CommandError, unusable
from lorafinetune.cli.options import (
    HERE,
    RUNS,
    S3,
    SECRETS,
    STORE,
    FactsOutput,
    File,
    Namespace,
    RunOutput,
    RunsFolder,
    SecretsFolder,
    Store,
    complete_reason,
)
from lorafinetune.cli.output import FactsFormat, Format, RunFormat, emit, errors, silence
from lorafinetune.contract.outcome import ExitCode

PROGRAM: Final = "lorafinetune"
PLUGIN: Final = "kubectl-"
COMPLETIONS: Final = ("install_completion", "show_completion")
EXIT_CODES: Final = (
    "Exit codes: 0 done; 64 bad input: the same command fails again; 75 try again later; 85 stopped after a "
    "checkpoint, or suspended; 130 interrupted; 2 wrong usage; 1 a bug."
)


class _Commands(TyperGroup):
    """Says of a wrong value what is wrong with it, without the word of the library that checks it.

    As kubectl's plugin it installs no completion: a shell would take it for kubectl's own.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.info_name != PROGRAM:
            for each in self.params:
                if isinstance(each, TyperOption) and each.name in COMPLETIONS:
                    each.hidden, each.callback = True, _refuse_completion
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as problem:
            problem.message = problem.message.removeprefix(PYDANTIC_PREFIX)
            raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Fine-tune a language model from one YAML file, here or on Kubernetes.",
    epilog=EXIT_CODES,
)


def _refuse_completion(ctx: Any, _: Any, is_wanted: bool) -> None:
    if is_wanted:
        ctx.fail("kubectl completes its plugin by itself, with kubectl_complete-finetune on the PATH.")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        emit(f"{PROGRAM} {version(PROGRAM)}\n")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options that need no command."""


@app.command(rich_help_panel=HERE)
def init(
    model: Annotated[str, typer.Option(help="Base model: OWNER/NAME, a URI or a directory.")] = "",
    data: Annotated[list[str], typer.Option(help="A file or a URI; can be given again.")] = [],
    name: Annotated[str, typer.Option(help="Name of the run; the model's by default.")] = "",
    namespace: Namespace = "",
    storage: Annotated[str, typer.Option(help="Where outputs go; s3://finetunes/NAME by default.")] = "",
    endpoint: Annotated[str, typer.Option(help="Address of the S3 server; AWS by default.")] = "",
    secret: Annotated[str, typer.Option(help="Secret with the credentials of the store.")] = "",
    token_secret: Annotated[str, typer.Option(help="Secret with the hub's token.")] = "",
    gpus: Annotated[int, typer.Option(min=0, max=1024, help="Number of GPUs; 0 trains on the CPU.")] = 1,
    to: Annotated[str, typer.Option(help="File to write; NAME.yaml by default, - for standard output.")] = "",
) -> None:
    """Write a good YAML from a model and a dataset.

    On a terminal it asks for the two where they are not given.

    Example: lorafinetune init --model Qwen/Qwen3-0.6B --data rows.jsonl
    """
    from lorafinetune.cli.init import InitOptions, asked, write

    base = asked(model, "--model", "base model (OWNER/NAME, a URI or a directory)")
    rows = data or [asked("", "--data", "dataset (a file or a URI)")]
    write(InitOptions(base, rows, name, namespace, storage, endpoint, secret, token_secret, gpus), to)


@app.command(rich_help_panel=HERE)
def validate(
    file: File,
    local: Annotated[
        bool, typer.Option("--local", help="As for a run on this machine, with its files.")
    ] = False,
    form: FactsOutput = FactsFormat.TEXT,
) -> None:
    """Check a file as far as that is possible without data and model.

    Says everything that is wrong with it, with line and field, in the operator's own words. With `-o json` it
    is a list, which is empty for a valid file.

    Example: lorafinetune validate samples/emollm-glm4.yaml
    """
    from lorafinetune.cli.validate import validate as check

    check(file, local, Format(form))


@app.command(rich_help_panel=HERE)
def run(
    file: File,
    form: RunOutput = RunFormat.TEXT,
    store: Store = STORE,
    s3: S3 = False,
    runs: RunsFolder = RUNS,
    secrets: SecretsFolder = SECRETS,
) -> None:
    """Run all stages on this machine: download, prepare, train, export.

    Needs no cluster and no account. Ctrl-C stops after a checkpoint; the same command goes on from there.
    What the store has already is not made again. With `-o json` the run as it ended is all that stands on
    standard output, with the places and digests of its outputs in its status.

    Example: lorafinetune run samples/smollm2-emollm.yaml
    """
    from lorafinetune.cli.run import run_resource
    from lorafinetune.cli.validate import read_valid

    resource = read_valid(file, local=True).resource
    sys.exit(run_resource(resource, None if s3 else store, runs, secrets.expanduser(), Format(form)))


@app.command(rich_help_panel=HERE)
def render(file: File) -> None:
    """Print the LLaMA-Factory arguments that a file leads to.

    Paths, device and micro-batch are missing: they are decided where the training runs, and change no
    result.

    Example: lorafinetune render samples/emollm-glm4.yaml
    """
    import yaml

    from lorafinetune.cli.validate import read_valid
    from lorafinetune.core.training import render as render_config

    resource = read_valid(file, local=True).resource
    emit(yaml.safe_dump(render_config(resource.spec), sort_keys=False, allow_unicode=True))


@app.command(rich_help_panel=HERE)
def explain(
    reason: Annotated[
        str,
        typer.Argument(metavar="REASON", help="Like DatasetInvalid.", autocompletion=complete_reason),
    ] = "",
    form: FactsOutput = FactsFormat.TEXT,
) -> None:
    """Say what a failure reason means, what to do, and whether it is tried again; all of them without one.

    Example: lorafinetune explain CudaOutOfMemory
    """
    from lorafinetune.cli.explain import explain as explain_reason

    explain_reason(reason, Format(form))


@app.command(rich_help_panel=HERE)
def crd() -> None:
    """Print the CustomResourceDefinition.

    Example: lorafinetune crd | kubectl apply --server-side -f -
    """
    from lorafinetune.api.crd import crd as make_crd
    from lorafinetune.cli.kubeyaml import dump

    emit(dump(make_crd()))


for commands in (cluster_commands.app, store_commands.app):
    app.add_typer(commands)


def main() -> None:
    """The entry point. Whatever goes wrong ends in a sentence and an exit code."""
    logging.basicConfig()
    try:
        app(prog_name=_name())
    except BrokenPipeError:
        silence(sys.stdout)
        sys.exit(ExitCode.DONE)
    except OSError as problem:
        _end(unusable(problem, "Give a place that can be read and written, with room."))
    except CommandError as problem:
        _end(problem)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            _leave(ended.__context__)
        raise


def _leave(broken: BrokenPipeError) -> Never:
    """Where nobody reads help, typer and rich end with 1; of wrong usage its own exit code stays."""
    silence(sys.stdout)
    silence(sys.stderr)
    sys.exit(getattr(broken.__context__, "exit_code", ExitCode.DONE))


def _end(problem: CommandError) -> Never:
    try:
        errors.print(problem.message, style="red")
    except OSError:
        silence(sys.stderr)
    sys.exit(problem.code)


def _name() -> str:
    """As it was called: kubectl's plugin `finetune` is a file `kubectl-finetune`."""
    called = Path(sys.argv[0]).name
    return called.replace("-", " ", 1) if called.startswith(PLUGIN) else PROGRAM

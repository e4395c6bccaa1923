"""The commands that speak with a cluster: each is a line of kubectl, made for this one resource."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lorafinetune.api.status import StageName
from lorafinetune.cli.choices import Sort
from lorafinetune.cli.options import (
    THERE,
    Context,
    File,
    Kubeconfig,
    ListOutput,
    Name,
    Namespace,
    RunOutput,
)
from lorafinetune.cli.output import Format, RunFormat

if TYPE_CHECKING:
    from lorafinetune.cli.cluster import Cluster

app = typer.Typer()


@app.command(rich_help_panel=THERE)
def apply(
    file: File,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Then show the run until it ends.")] = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that somebody else has set.")
    ] = False,
    form: RunOutput = RunFormat.TEXT,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Check a file, and create or change its run on the cluster.

    A file that `lorafinetune validate` refuses never gets there.

    Example: lorafinetune apply tune.yaml --namespace team-a --watch
    """
    from lorafinetune.cli.apply import apply_file
    from lorafinetune.cli.connection import Access

    cluster, name = apply_file(file, Access(context, namespace, kubeconfig), force_conflicts, Format(form))
    if watch:
        from lorafinetune.cli.watch import watch_run

        sys.exit(watch_run(cluster, name))


@app.command("list", rich_help_panel=THERE)
def list_(
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List runs in all namespaces.")
    ] = False,
    sort: Annotated[Sort, typer.Option(help="Sort order.")] = Sort.NAME,
    form: ListOutput = Format.TEXT,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """List the runs of a namespace, with stage, progress, loss, GPU time, and why a run is stuck.

    Example: lorafinetune list --all-namespaces --sort gpu-seconds
    """
    from lorafinetune.cli.listing import list_runs

    list_runs(_cluster(context, namespace, kubeconfig), everywhere, form, sort)


@app.command(rich_help_panel=THERE)
def watch(name: Name, namespace: Namespace = "", context: Context = "", kubeconfig: Kubeconfig = "") -> None:
    """Show a run live until it ends: stages, bars, loss curve, time left.

    Ends with the run's own exit code. Ctrl-C ends the watching alone, with 130. Without a terminal there is
    a line for every event.

    Example: lorafinetune watch tune --namespace team-a
    """
    from lorafinetune.cli.watch import watch_run

    sys.exit(watch_run(_cluster_of(name, context, namespace, kubeconfig), name))


@app.command(rich_help_panel=THERE)
def logs(
    name: Name,
    stage: Annotated[
        StageName | None, typer.Option(help="Stage whose log is shown; the running one by default.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on until the pod ends.")] = True,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last N lines.")] = None,
    namespace: Namespace = "",
    context: Context = "",
    kubeconfig: Kubeconfig = "",
) -> None:
    """Show what the running stage's pod writes; where none runs, what the last one wrote.

    Example: lorafinetune logs tune --stage train --tail 100
    """
    from lorafinetune.cli.logs import show_logs

    show_logs(_cluster_of(name, context, namespace, kubeconfig), name, stage, follow, tail)


def _add_switch(command: str, suspended: bool, what: str) -> None:
    @app.command(command, help=f"{what}\n\nExample: lorafinetune {command} tune", rich_help_panel=THERE)
    def switch(
        name: Name,
        form: RunOutput = RunFormat.TEXT,
        namespace: Namespace = "",
        context: Context = "",
        kubeconfig: Kubeconfig = "",
    ) -> None:
        from lorafinetune.cli.suspend import set_suspend

        set_suspend(_cluster_of(name, context, namespace, kubeconfig), name, suspended, Format(form))


_add_switch("suspend", True, "Stop a run, its training after a checkpoint, and free its GPUs.")
_add_switch("resume", False, "Let a suspended run go on, its training from its checkpoint.")


def _cluster(context: str, namespace: str, kubeconfig: str) -> "Cluster":
    from lorafinetune.cli.connection import Access, connect

    return connect(Access(context, namespace, kubeconfig))


def _cluster_of(name: str, context: str, namespace: str, kubeconfig: str) -> "Cluster":
    """The one with the run of that name."""
    from lorafinetune.cli.lookup import refuse_path

    refuse_path(name)
    return _cluster(context, namespace, kubeconfig)

"""`lorafinetune suspend` and `resume` set the field `spec.suspend`, and say what that does to the run.

What it does depends on where the run stood, so the run is read first. A training alone has checkpoints.
"""

from typing import Final

from lorafinetune.cli.cluster import Cluster, Object
from lorafinetune.cli.output import Format, emit, full_name, output, printed

ALREADY: Final = "is suspended already; {resume} lets it go on"
WAITS: Final = "suspended: {stage} waits, and does not begin before {resume}"
RUNS_AGAIN: Final = "suspended: {stage} stops, and {resume} runs it again"
AT_REST: Final = "suspended: nothing of it runs before {resume}"
STOPS: Final = {
    "Download": RUNS_AGAIN,
    "Prepare": RUNS_AGAIN,
    "Train": "suspended: train stops after a checkpoint, and {resume} goes on from there",
    "Export": RUNS_AGAIN,
    "Complete": "is complete, and stays so; what an edit asks for waits for {resume}",
    "Failed": "suspended: it has failed, and is not tried again before {resume}",
}
"""What is said of a run, by `status.stage`."""


def set_suspend(cluster: Cluster, name: str, suspend: bool, form: Format) -> None:
    """Raises ApiError."""
    before = cluster.run(name)
    run = cluster.merge(name, {"spec": {"suspend": suspend}})
    if form is not Format.TEXT:
        emit(printed([run], form))
    elif suspend:
        resume = f"`lorafinetune resume {name} -n {cluster.namespace}`"
        output.print(f"{full_name(name)} {suspended(before, resume)}")
    else:
        output.print(f"{full_name(name)} {resumed(before)}")


def suspended(before: Object, resume: str) -> str:
    """What `suspend` does to a run. before: as it was. resume: the command that undoes it."""
    status = before.get("status") or {}
    stage = str(status.get("stage") or "").lower()
    words = STOPS.get(stage.capitalize(), AT_REST)
    if before["spec"].get("suspend"):
        words = ALREADY
    elif any(each["name"] == stage and each.get("state") == "Waiting" for each in status.get("stages") or ()):
        words = WAITS
    return words.format(stage=stage, resume=resume)


def resumed(before: Object) -> str:
    """What `resume` does to a run that was so."""
    return "resumed" if before["spec"].get("suspend") else "was not suspended"

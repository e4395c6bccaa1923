"""How a run is counted: its state and its reason."""

from collections.abc import Mapping
from sys import intern
from typing import Any

from lorafinetune.core.conditions import ENDS, QUEUED


def state_of(status: Mapping[str, Any]) -> tuple[str, str]:
    """State and reason of a run, from its status: few texts for many runs."""
    conditions = {c.get("type"): c for c in status.get("conditions", [])}
    ready = conditions.get("Ready")
    if ready is None:
        return "Pending", ""
    told = (kind for kind in (*ENDS, QUEUED) if conditions.get(kind, {}).get("status") == "True")
    moving = "Waiting" if "failure" in status else "Running"
    return next(told, moving), intern(str(ready.get("reason", "")))

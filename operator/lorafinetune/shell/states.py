"""How a run is counted: its state and its reason."""

from collections.abc import Mapping
from sys import intern
from typing import Any

from lorafinetune.core.conditions import ENDS


def state_of(status: Mapping[str, Any]) -> tuple[str, str]:
    """State and reason of a run, from its status: few texts for many runs."""
    conditions = {c.get("type"): c for c in status.get("conditions", [])}
    ready = conditions.get("Ready")
    if ready is None:
        return "Pending", ""
    ended = (kind for kind in ENDS if conditions.get(kind, {}).get("status") == "True")
    waiting = "Waiting" if "failure" in status else "Running"
    return next(ended, waiting), intern(str(ready.get("reason", "")))

"""What a run is at each of its stages, by the program of another commit: `python previous_runs.py`, with that
commit's `operator` and `tests` in PYTHONPATH.

It prints as JSON, for each stage and for the end, the resource, the Jobs that were created, and what each of
them that has ended has left as its message.
"""

import json
import sys
from typing import Any

from lorafinetune.contract.outcome import Result, encode_result
from unit.world import World


def moments() -> list[dict[str, Any]]:
    world, found = World(), list[dict[str, Any]]()
    while not found or world.active():
        if found:
            world.succeed()
        world.settle()
        results = {name: job.outcome for name, job in world.jobs.items() if isinstance(job.outcome, Result)}
        found.append(
            {
                "resource": world.resource.encode(),
                "jobs": list(world.created),
                "messages": {name: encode_result(outcome) for name, outcome in results.items()},
            }
        )
    return found


if __name__ == "__main__":
    json.dump(moments(), sys.stdout)

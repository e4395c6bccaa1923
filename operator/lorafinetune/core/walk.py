"""The walk over the stages: what it is given, and how far it has come.

Every step takes the walk as it is and returns it as it is then; the first situation ends it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.api.status import LoRAFineTuneStatus, StageName, StageStatus
from lorafinetune.contract.outcome import Progress, StageError
from lorafinetune.core.conditions import Situation
from lorafinetune.core.gate import GateResult
from lorafinetune.core.jobs import Settings
from lorafinetune.core.observed import Observed, ObservedJob
from lorafinetune.core.results import with_stage
from lorafinetune.core.steps import stage_status

STUCK_AFTER: Final = timedelta(seconds=30)
"""A node that is lost tells no watch of it: what is leaving is looked at again."""


@dataclass(frozen=True)
class Input:
    """Everything that the decision depends on.

    progress: of the running Jobs, by name. taken: names of Jobs that could not be created because
    another object has the name. refused: what the API server answered to a creation, by Job name.
    """

    resource: LoRAFineTune
    observed: Observed
    settings: Settings
    now: datetime
    progress: Mapping[str, Progress] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Walk:
    """Where the walk has come to; `situation` ends it. error: why the run fails or waits. verdict: of the
    gate, once the walk has come to it."""

    status: LoRAFineTuneStatus
    situation: Situation | None = None
    create: tuple[dict[str, Any], ...] = ()
    delete: tuple[str, ...] = ()
    patch: tuple[tuple[str, dict[str, Any]], ...] = ()
    check_again: timedelta | None = None
    error: StageError | None = None
    verdict: GateResult | None = None

    def with_stage(self, changed: StageStatus) -> "Walk":
        return replace(self, status=with_stage(self.status, changed))

    def stop(
        self, stage: StageName, jobs: Iterable[ObservedJob], message: str, error: StageError | None = None
    ) -> "Walk":
        """Asks Jobs to leave, and waits until nothing of them is left. error: why, where they ended so."""
        leaving = tuple(jobs)
        going = tuple(j.name for j in leaving if j.state != "leaving" and j.name not in self.delete)
        stuck = next((j.trouble for j in leaving if j.state == "leaving" and j.trouble), None)
        if stuck:
            return self.wait(stage, stuck)
        stopping = stage_status(self.status, stage).model_copy(
            update={"state": "Stopping", "message": message}
        )
        return replace(
            self.with_stage(stopping),
            delete=self.delete + going,
            check_again=STUCK_AFTER,
            situation=Situation("Stopping", error.reason if error else "Stopping", message, stage),
            error=error,
        )

    def suspend(self, stage: StageName, jobs: Iterable[ObservedJob]) -> "Walk":
        """Asks Jobs to leave for `spec.suspend`. A training alone has checkpoints."""
        return self.stop(stage, jobs, "stopping after a checkpoint" if stage == "train" else "stopping")

    def wait(self, stage: StageName, error: StageError, again: timedelta | None = None) -> "Walk":
        """Waits for somebody to mend what keeps the stage from getting on."""
        waiting = stage_status(self.status, stage).model_copy(
            update={"state": "Waiting", "message": error.message}
        )
        return replace(
            self.with_stage(waiting),
            situation=Situation("Waiting", error.reason, error.message, stage),
            error=error,
            check_again=again,
        )

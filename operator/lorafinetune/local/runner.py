"""The local control loop: observe, plan, apply, show; until the resource is finished or suspended."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from lorafinetune.api.resource import LoRAFineTune
from lorafinetune.contract.outcome import Progress
from lorafinetune.core.events import Event
from lorafinetune.core.jobs import Settings
from lorafinetune.core.observed import observe
from lorafinetune.core.plan import Input, Plan, is_finished, plan
from lorafinetune.local.executor import Executor

TICK_SECONDS: Final = 0.2

Show = Callable[[LoRAFineTune, dict[str, Progress], tuple[Event, ...]], None]


def run(
    resource: LoRAFineTune, executor: Executor, settings: Settings, show: Show, stop: threading.Event
) -> LoRAFineTune:
    """Runs a resource to its end and returns it with its last status.

    stop: once set, the running stage is stopped after a checkpoint, as if `suspend` had been set.
    """
    while True:
        if stop.is_set():
            resource = suspended(resource)
        progress = executor.progress()
        planned = _plan(resource, executor, settings, progress)
        _apply(planned, executor)
        resource = resource.model_copy(update={"status": planned.status})
        show(resource, progress, planned.events)
        if is_finished(resource) or planned.status.stage == "Suspended":
            return resource
        pause = planned.check_again.total_seconds() if planned.check_again else TICK_SECONDS
        executor.wait(min(pause, TICK_SECONDS))


def suspended(resource: LoRAFineTune) -> LoRAFineTune:
    """The resource with `spec.suspend` set."""
    return resource.model_copy(update={"spec": resource.spec.model_copy(update={"suspend": True})})


def _plan(
    resource: LoRAFineTune, executor: Executor, settings: Settings, progress: dict[str, Progress]
) -> Plan:
    jobs, pods = executor.objects()
    now = datetime.now(UTC)
    observed = observe(resource.metadata.uid, jobs, pods, (), now)
    return plan(Input(_on_one_machine(resource), observed, settings, now, progress))


def _on_one_machine(resource: LoRAFineTune) -> LoRAFineTune:
    """The same training: how many nodes share its steps changes no result."""
    spec = resource.spec
    train = spec.resources.train.model_copy(update={"nodes": 1})
    resources = spec.resources.model_copy(update={"train": train})
    return resource.model_copy(update={"spec": spec.model_copy(update={"resources": resources})})


def _apply(planned: Plan, executor: Executor) -> None:
    for name in planned.delete:
        executor.delete(name)
    for job in planned.create:
        executor.create(job)

"""A Job that gets no pod, though nothing keeps it from one, is changed every five minutes.

Kubernetes' Job controller may wait for the pod of an earlier Job of the same name, which was deleted as it
was made: it counts the pods that it expects by the name of the Job. It gives up after five minutes, but looks
at the Job again only when this changes, or after hours.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from lorafinetune.core.observed import REMINDED_ANNOTATION, ObservedJob
from lorafinetune.core.walk import Walk

REMIND_EVERY: Final = timedelta(minutes=5)
"""Kubernetes' `ExpectationsTimeout`, in pkg/controller/controller_utils.go."""


def reminded(walk: Walk, observed: ObservedJob, now: datetime) -> Walk:
    """The walk with a change of a running Job where one is due. Its start is told by the Job controller."""
    if observed.started is None or observed.pods:
        return walk
    due, since = divmod(now - observed.started, REMIND_EVERY)
    walk = replace(walk, check_again=walk.check_again or REMIND_EVERY - since)
    if due < 1 or observed.reminded == str(due):
        return walk
    change = {"metadata": {"annotations": {REMINDED_ANNOTATION: str(due)}}}
    return replace(walk, patch=((observed.name, change),))

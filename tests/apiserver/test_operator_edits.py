"""An edit, or a pause, at any moment of a run: what it touches runs again, and nothing else does."""

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import pytest

from apiserver.operating import Namespace, Object, outcome_of, uid
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.observed import STAGE_LABEL

Moment = Literal["before", "during", "after"]
MOMENTS: Mapping[Moment, int] = {"before": -1, "during": 0, "after": 1}
"""While the stage before it runs; while it runs; and once it is done, when the next has not begun. The first
is also before a stage that nothing may begin yet, the last is also a whole run that is Complete."""

EDITS: Mapping[StageName, Mapping[str, Any]] = {
    "download": {"model": {"revision": "another"}},
    "prepare": {"training": {"cutoffLength": 64}},
    "train": {"training": {"epochs": "4"}},
    "export": {"export": {"merged": {"maxShardSize": "1GB"}}},
}
"""By the stage whose output it shapes."""
TOUCHED: Mapping[StageName, tuple[StageName, ...]] = {
    "download": STAGES,
    "prepare": ("prepare", "train", "export"),
    "train": ("prepare", "train", "export"),
    "export": ("export",),
}
"""Prepare makes the key of the training, so it reads the training's fields too."""


@dataclass
class Life:
    """A run that has come to some point. done: Jobs with their result. active: the Job that has none yet."""

    runs: Namespace
    name: str
    done: dict[StageName, Object]
    active: Object | None = None

    def edit(self, stage: StageName) -> None:
        self.runs.edit(self.name, {**EDITS[stage], "suspend": False})
        self._touch(TOUCHED[stage])

    def pause(self, _: StageName) -> None:
        self.runs.edit(self.name, {"suspend": True})
        self._touch([stage_of(self.active)] if self.active else [])
        self.runs.until(self.name, "Complete" if len(self.done) == len(STAGES) else "Suspended")
        self.runs.edit(self.name, {"suspend": False})

    def _touch(self, stages: Collection[StageName]) -> None:
        """What is to run again is forgotten; a Pod that is asked to leave does."""
        self.done = {stage: job for stage, job in self.done.items() if stage not in stages}
        if self.active and stage_of(self.active) in stages:
            self._leaves(self.active)
            self.active = None

    def _leaves(self, job: Object) -> None:
        def is_asked() -> bool:
            pods = [pod for pod in self.runs.pods_of(self.name) if pod_is_of(pod, job)]
            return all("deletionTimestamp" in pod["metadata"] for pod in pods)

        self.runs.wait(is_asked)
        for pod in self.runs.pods_of(self.name):
            if pod_is_of(pod, job):
                self.runs.remove(pod)


def pod_is_of(pod: Object, job: Object) -> bool:
    return any(owner["uid"] == uid(job) for owner in pod["metadata"].get("ownerReferences", []))


def stage_of(job: Object) -> StageName:
    stage: StageName = job["metadata"]["labels"][STAGE_LABEL]
    return stage


def lived(runs: Namespace, name: str, stage: StageName, moment: Moment) -> Life:
    at = STAGES.index(stage) + MOMENTS[moment]
    runs.apply(name, {"suspend": at < 0})
    life = Life(runs, name, {past: runs.finish(name, past) for past in STAGES[: max(at, 0)]})
    if 0 <= at < len(STAGES):
        life.active = runs.job(name, STAGES[at])
        pod = runs.pod(life.active)
        if moment != "after":
            runs.run(pod)
    else:
        runs.until(name, "Suspended" if at < 0 else "Complete")
    return life


def live_on(life: Life, seen: frozenset[str]) -> None:
    """To the end: Jobs that were seen before are not what is waited for."""
    for stage in STAGES:
        if stage in life.done:
            continue
        if life.active and stage_of(life.active) == stage:
            life.done[stage] = life.active
            pod = life.runs.pod(life.active)
            life.runs.end(pod, outcome_of(pod))
        else:
            life.done[stage] = life.runs.wait(partial(made_anew, life, stage, seen))
            pod = life.runs.pod(life.done[stage])
            life.runs.end(pod, outcome_of(pod))


def made_anew(life: Life, stage: StageName, seen: frozenset[str]) -> Object:
    jobs = (job for job in life.runs.jobs_of(life.name, stage) if uid(job) not in seen)
    return next((job for job in jobs if "deletionTimestamp" not in job["metadata"]), {})


def is_complete(life: Life) -> bool:
    run = life.runs.get(life.name)
    is_current = run["status"]["observedGeneration"] == run["metadata"]["generation"]
    return is_current and bool(life.runs.condition(life.name, "Complete"))


ACTS: Mapping[str, Callable[[Life, StageName], None]] = {"edit": Life.edit, "pause": Life.pause}


CASES = list(product(STAGES, MOMENTS, ACTS))
AT_ONCE = 6
"""Lives: each waits for the Job controller most of the time."""


@pytest.fixture(scope="module")
def lives(runs: Namespace) -> Iterator[Mapping[tuple[str, ...], Future[Life]]]:
    """All of them, some at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(whole, runs, *case) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_only_what_is_touched_runs_again(
    case: tuple[str, ...], lives: Mapping[tuple[str, ...], Future[Life]]
) -> None:
    life = lives[case].result()
    jobs = life.runs.jobs_of(life.name)
    assert {uid(job) for job in jobs} == {uid(job) for job in life.done.values()}
    assert [told["state"] for told in life.runs.status(life.name)["stages"]] == ["Complete"] * len(STAGES)


def whole(runs: Namespace, stage: StageName, moment: Moment, act: str) -> Life:
    life = lived(runs, f"{stage}-{moment}-{act}", stage, moment)
    seen = frozenset(uid(job) for job in runs.jobs_of(life.name))
    ACTS[act](life, stage)
    live_on(life, seen)
    runs.wait(lambda: is_complete(life))
    return life

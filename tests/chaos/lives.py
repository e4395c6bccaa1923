"""The life of a run on a cluster that is disturbed, from its first moment to the last of what it left."""

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from chaos.disturbances import DISTURBANCES
from chaos.hands import Hands, operator_log, stubborn
from chaos.judgement import End, Judged, crowded, judge
from chaos.means import Missed, where_it_was
from chaos.schedule import CLUSTER, Schedule
from chaos.subjects import TINY, Subject
from cluster.process import say
from e2e.installation import Installation
from e2e.tenant import Store
from lorafinetune.core.observed import STAGE_LABEL
from lorafinetune_stages.store.manifest import MANIFEST, Manifest

GONE_WITHIN: Final = 120.0
NOBODY: Final = Schedule(0, ())
TRIES: Final = 4
"""Of a strike: each waits some seconds for something that it could hit."""


@dataclass
class Stage:
    """Where it all happens. struck: what struck everybody, and when; logs: of operators that are gone."""

    installation: Installation
    store: Store
    subject: Subject = TINY
    struck: list[tuple[float, str]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    def undisturbed(self) -> tuple[End, float]:
        """How a run ends that is left alone, and how many seconds it takes."""
        began = time.monotonic()
        end, _ = self._live(NOBODY, 0)
        return end, time.monotonic() - began

    def disturbed(self, schedule: Schedule, twin: End, length: float) -> Judged:
        began = time.monotonic()
        struck: list[str] = []
        try:
            end, struck = self._live(schedule, length)
        except Exception as error:
            end = End(trouble=f"{type(error).__name__}: {error}")
        around = [what for at, what in self.struck if at >= began]
        judged = judge(schedule, struck, around, end, twin)
        say(f"run {schedule.number}, {time.monotonic() - began:.0f} s: {judged.verdict}: {schedule}")
        for missed in judged.missed:
            say(f"  {missed}: missed, there was nothing to strike")
        for complaint in judged.complaints:
            say(f"  {complaint}")
        return judged

    def tracebacks(self) -> list[str]:
        """The tails of the operators' logs that begin with an error's traceback."""
        pod = stubborn(self.installation.operator_pod)
        logs = [*self.logs, operator_log(self.installation, pod)]
        return [log[log.index("Traceback") :][:4000] for log in logs if "Traceback" in log]

    def _live(self, schedule: Schedule, length: float) -> tuple[End, list[str]]:
        hands = Hands(self.installation, self.store, self.logs, self.subject.changes)
        hands.give_secret()
        hands.apply_run()
        with watched(hands) as crowds:
            struck = list(self._strike(hands, schedule, length))
            end = ended(hands, self.subject.patience)
        hands.kubectl("delete", "lorafinetune", "tune")
        end = replace(end, crowded=frozenset(crowds), left=left(hands))
        hands.system("delete", "namespace", hands.namespace, "--wait=false")
        stubborn(partial(self.store.clear, f"{hands.namespace}/"))
        return end, struck

    def _strike(self, hands: Hands, schedule: Schedule, length: float) -> Iterator[str]:
        began = time.monotonic()
        for strike in schedule.strikes:
            time.sleep(max(0.0, began + strike.at * length - time.monotonic()))
            if any(self._hits(hands, strike.what) for _ in range(TRIES)):
                yield strike.what

    def _hits(self, hands: Hands, what: str) -> bool:
        """Whether it was really done."""
        try:
            with self._told(what), where_it_was():
                DISTURBANCES[what](hands)
        except Missed:
            return False
        return True

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """All runs are told when it begins and when it is over, if it is their business."""
        told = [what] if what in CLUSTER else []
        self.struck.extend((time.monotonic(), each) for each in told)
        yield
        self.struck.extend((time.monotonic(), each) for each in told)


@contextmanager
def watched(hands: Hands) -> Iterator[set[str]]:
    """The stages of which two pods are seen running at once while the block runs."""
    crowds: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            with suppress(OSError):
                crowds.update(crowded(running(hands.pods())))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield crowds
        finally:
            over.set()
        watching.result()


def running(pods: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The stage of each pod that runs."""
    for pod in filter(_is_owned, pods):
        if any("running" in c["state"] for c in pod["status"].get("containerStatuses", ())):
            yield pod["metadata"]["labels"][STAGE_LABEL]


def ended(hands: Hands, patience: float) -> End:
    """How it ends: Complete or Failed, of the spec that it has now."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError):
            found = hands.get()
            if conditions := _conditions(found) & {"Complete", "Failed"}:
                return _complete(hands, found["status"]) if "Complete" in conditions else _failed(found)
        time.sleep(0.5)
    return End(trouble=f"no end after {patience:.0f} s: {stubborn(hands.status)}")


def _conditions(found: Mapping[str, Any]) -> set[str]:
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return set()
    return {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}


def _failed(found: Mapping[str, Any]) -> End:
    return End(reason=found["status"]["failure"]["reason"])


def _complete(hands: Hands, status: Mapping[str, Any]) -> End:
    digests = {name: status["artifacts"][name]["digest"] for name in ("adapter", "merged")}
    return End(digests=digests, broken=tuple(broken_files(hands.store, f"{hands.namespace}/")))


def broken_files(store: Store, prefix: str) -> Iterator[str]:
    """The files below a prefix that are not as a manifest beside them says."""
    for manifest in stubborn(partial(store.keys, prefix)):
        folder, _, name = manifest.rpartition("/")
        if name == MANIFEST:
            for file in Manifest.model_validate_json(stubborn(partial(_read, store, manifest))).files:
                content = stubborn(partial(_read, store, f"{folder}/{file.path}"))
                if hashlib.sha256(content).hexdigest() != file.sha256:
                    yield f"{folder}/{file.path}"


def _read(store: Store, key: str) -> bytes:
    client = store.endpoint.client()
    try:
        return client.get_object(Bucket=store.bucket, Key=key)["Body"].read()
    finally:
        client.close()


def left(hands: Hands) -> tuple[str, ...]:
    """What is still there some time after the resource was deleted."""
    deadline = time.monotonic() + GONE_WITHIN
    while things := _things(hands):
        if time.monotonic() > deadline:
            return things
        time.sleep(0.5)
    return ()


def _is_owned(pod: Mapping[str, Any]) -> bool:
    """A pod that was orphaned on purpose belongs to whoever did it."""
    return bool(pod["metadata"].get("ownerReferences"))


def _things(hands: Hands) -> tuple[str, ...]:
    found = json.loads(hands.kubectl("get", "lorafinetunes,jobs,pods", "--output=json"))["items"]
    mine = [each for each in found if each["kind"] != "Pod" or _is_owned(each)]
    return tuple(f"{each['kind']} {each['metadata']['name']}" for each in mine)

"""A training on several nodes against the real Job controller: an Indexed Job, and the Service by which
its pods meet.
"""

import time
from typing import Any

from apiserver.operating import Namespace, Object, outcome_of, uid
from builders import error
from lorafinetune.api.reasons import Reason
from lorafinetune.core.observed import NAME_LABEL
from lorafinetune.core.pods import node_of

TWO: dict[str, Any] = {"resources": {"train": {"nodes": 2}}}


def at_training(runs: Namespace, name: str) -> Object:
    """The training's Job of a run on two nodes."""
    runs.apply(name, TWO)
    for stage in ("download", "prepare"):
        runs.finish(name, stage)
    return runs.job(name, "train")


def pods(runs: Namespace, job: Object) -> list[Object]:
    """Both pods of a Job, by node."""

    def both() -> list[Object]:
        owned = [
            pod for pod in runs.items("pods") if pod["metadata"]["ownerReferences"][0]["uid"] == uid(job)
        ]
        return sorted(owned, key=node_of) if len(owned) == 2 else []

    return runs.wait(both)


def services(runs: Namespace, name: str) -> list[Object]:
    found = runs.items("services")
    return [each for each in found if each["metadata"].get("labels", {}).get(NAME_LABEL) == name]


def test_the_pods_of_two_nodes_have_names_and_a_service_that_goes_with_the_run(runs: Namespace) -> None:
    job = at_training(runs, "pair")
    (service,) = services(runs, "pair")
    both = pods(runs, job)
    assert service["spec"]["clusterIP"] == "None"
    for index, pod in enumerate(both):
        assert pod["spec"]["hostname"] == f"{job['metadata']['name']}-{index}"
        assert pod["spec"]["subdomain"] == service["metadata"]["name"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    for pod in both:
        runs.end(pod, outcome_of(pod))
    runs.finish("pair", "export")
    runs.until("pair", "Complete")
    runs.client.request("DELETE", runs.path("lorafinetunes", "pair"))
    runs.wait(lambda: not services(runs, "pair") and not runs.jobs_of("pair"))


def test_a_node_that_fails_ends_the_other_and_its_reason_is_told(runs: Namespace) -> None:
    first, second = pods(runs, at_training(runs, "torn"))
    for pod in (first, second):
        runs.run(pod)
    runs.end(second, error(Reason.LOSS_DIVERGED))
    runs.wait(lambda: leaving(runs, first))
    runs.end(first, error(Reason.RANK_LOST))
    runs.until("torn", "Failed", "LossDiverged")


def test_all_nodes_begin_again_after_one_was_lost(runs: Namespace) -> None:
    job = at_training(runs, "again")
    for pod in pods(runs, job):
        runs.run(pod)
        runs.end(pod, error(Reason.RANK_LOST))
    begun = time.monotonic()
    anew = runs.job("again", "train", other_than=job)
    assert time.monotonic() - begun > 1
    assert len(services(runs, "again")) == 1
    for pod in pods(runs, anew):
        runs.end(pod, outcome_of(pod))
    runs.finish("again", "export")
    runs.until("again", "Complete")
    assert runs.status("again")["stages"][2]["attempts"] == 1


def leaving(runs: Namespace, pod: Object) -> bool:
    there = (each for each in runs.items("pods") if uid(each) == uid(pod))
    return any("deletionTimestamp" in each["metadata"] for each in there)

"""The Job of a training on several nodes, and the Service by which its pods meet."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import ARGUMENTS_VARIABLE, MEETING_VARIABLE, NODES_VARIABLE, STAGES
from lorafinetune.core.nodes import MEETING_PORT, NODES_LABEL, PORTS, service
from unit.test_jobs import container, environment, make, pod
from unit.world import World

Object = dict[str, Any]

TWO = {"resources": {"train": {"nodes": 2}}}
NODES_FIELDS = {"completions", "parallelism", "completionMode"}


def job_of(name: str, uid: str, nodes: int = 2) -> Object:
    world = World({"resources": {"train": {"nodes": nodes}}})
    metadata = world.resource.metadata.model_copy(update={"name": name, "uid": uid})
    world.resource = world.resource.model_copy(update={"metadata": metadata})
    world.run_to_end()
    return next(job for job in world.created if job["spec"].get("completions") == nodes)


@pytest.mark.parametrize("stage", STAGES)
def test_a_job_of_one_pod_says_nothing_of_nodes(stage: StageName) -> None:
    made = make(stage)
    assert not NODES_FIELDS & set(made["spec"])
    assert not {NODES_VARIABLE, MEETING_VARIABLE} & set(environment(made))
    assert "subdomain" not in pod(made)
    assert "sysctls" not in pod(made)["securityContext"]
    assert service(made) is None


@pytest.mark.parametrize("stage", ["download", "prepare", "export"])
def test_other_stages_have_one_pod_whatever_the_training_has(stage: StageName) -> None:
    assert make(stage, TWO)["spec"].get("completions") is None


def test_a_training_is_told_how_its_base_is_split_where_it_is() -> None:
    told = {
        sharding: json.loads(
            environment(make("train", {"resources": {"train": {"gpu": {"count": 2}, "sharding": sharding}}}))[
                ARGUMENTS_VARIABLE
            ]
        )
        for sharding in ("none", "fsdp2")
    }
    assert {name: given.get("sharding") for name, given in told.items()} == {"none": None, "fsdp2": "fsdp2"}


def meeting(made: Object) -> str:
    return str(environment(made)[MEETING_VARIABLE])


SAYS: dict[str, tuple[Callable[[Object], Any], Any]] = {
    "that it has one pod a node, at once": (
        lambda made: {name: made["spec"][name] for name in sorted(NODES_FIELDS)},
        {"completionMode": "Indexed", "completions": 2, "parallelism": 2},
    ),
    "that it has no second try": (lambda made: made["spec"]["backoffLimit"], 0),
    "that all end with a pod that is taken away": (
        lambda made: [rule["action"] for rule in made["spec"]["podFailurePolicy"]["rules"]],
        ["FailJob"],
    ),
    "each pod how many there are": (lambda made: environment(made)[NODES_VARIABLE], "2"),
    "each pod where the first is": (
        lambda made: meeting(made) == f"{made['metadata']['name']}-0.{pod(made)['subdomain']}:{MEETING_PORT}",
        True,
    ),
    "the kernel what ranks listen on": (
        lambda made: pod(made)["securityContext"]["sysctls"],
        [{"name": "net.ipv4.ip_local_port_range", "value": f"{PORTS[0]} {PORTS[1]}"}],
    ),
    "a NetworkPolicy which pods these are": (
        lambda made: made["spec"]["template"]["metadata"]["labels"][NODES_LABEL],
        "2",
    ),
    "that each pod has the GPUs of a node": (
        lambda made: container(made)["resources"]["limits"]["nvidia.com/gpu"],
        1,
    ),
}


@pytest.mark.parametrize("sentence", SAYS)
def test_a_job_of_two_pods_says(sentence: str) -> None:
    part, expected = SAYS[sentence]
    assert part(make("train", TWO)) == expected


def test_a_service_names_the_pods_of_a_run_before_they_are_ready_and_goes_with_the_run() -> None:
    job = make("train", TWO)
    made = service(job)
    assert made is not None
    assert made["metadata"]["name"] == pod(job)["subdomain"]
    assert made["metadata"]["ownerReferences"] == job["metadata"]["ownerReferences"]
    assert made["spec"]["clusterIP"] == "None"
    assert made["spec"]["publishNotReadyAddresses"] is True
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        pytest.param("tune", "lft-tune-", id="a plain name"),
        pytest.param("7b.chat", "lft-7b-chat-", id="with a digit first and a dot"),
        pytest.param("a" * 29 + ".b" + "c" * 9, f"lft-{'a' * 29}-", id="cut at a dot"),
    ],
)
def test_the_name_of_a_service_is_one(name: str, starts: str) -> None:
    made = service(job_of(name, "uid-1"))
    assert made is not None
    found = made["metadata"]["name"]
    assert found.startswith(starts)
    assert len(found) <= 63
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_a_run_of_the_same_name_later_has_another_service() -> None:
    earlier, later = (service(job_of("tune", uid)) for uid in ("uid-1", "uid-2"))
    assert earlier is not None
    assert later is not None
    assert earlier["metadata"]["name"] != later["metadata"]["name"]

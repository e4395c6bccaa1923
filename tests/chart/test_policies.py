"""What the charts' NetworkPolicies let through: each stage × each place, and what may reach whom."""

from typing import Any

import pytest

from chart.helm import NAMESPACE, OPERATOR, RELEASE, STORE, TENANT, Object, at, render
from chart.policies import Peer, allows
from lorafinetune.api.status import StageName
from lorafinetune.contract.arguments import STAGES
from lorafinetune.core.jobs import Settings, job
from lorafinetune.core.nodes import MEETING_PORT, PORTS
from lorafinetune.core.steps import arguments_of, step
from unit.world import World

TEAM = "team-a"
ALL = frozenset(STAGES)
HUBS = frozenset({"download"})
NONE: frozenset[str] = frozenset()

DNS = Peer("kube-system", {"k8s-app": "kube-dns"})
S3 = Peer("storage", {"app": "s3"})
STRANGER = Peer("team-b", {"app": "collector"})


def policies(**of_tenant: Any) -> list[Object]:
    """Those of both charts."""
    values = {"networkPolicy": {"store": {"to": STORE}} | of_tenant}
    rendered = render(OPERATOR) + render(TENANT, values, namespace=TEAM)
    return [one for one in rendered if one["kind"] == "NetworkPolicy"]


def stage_pod(stage: StageName, namespace: str = TEAM, nodes: int = 1, export: Object | None = None) -> Peer:
    """A pod of a Job of ours, with the labels that it has. nodes: of the training."""
    world = World({"resources": {"train": {"nodes": nodes}}, "export": export or {}})
    world.run_to_end()
    arguments = arguments_of(stage, world.resource, world.status)
    made = job(step(stage, world.resource, world.status), arguments, world.resource, 1, Settings())
    return Peer(namespace, made["spec"]["template"]["metadata"]["labels"])


def operator_pod() -> Peer:
    """The pod that the operator's chart starts."""
    template = at(render(OPERATOR), f"Deployment/{RELEASE}: spec.template")
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    return Peer(NAMESPACE, template["metadata"]["labels"], ports=ports)


PLACES: dict[str, tuple[Peer, int, frozenset[str]]] = {
    "the store": (S3, 443, ALL),
    "another port of the store": (S3, 7070, NONE),
    "the receiver of progress": (operator_pod(), 8443, ALL),
    "the operator's metrics": (operator_pod(), 8080, NONE),
    "a DNS server on the node": (Peer(address="169.254.20.10"), 53, ALL),
    "a hub": (Peer(address="18.64.0.1"), 443, HUBS),
    "a hub without TLS": (Peer(address="18.64.0.1"), 80, NONE),
    "a hub over IPv6": (Peer(address="2600:9000::1"), 443, HUBS),
    "the API server": (Peer(address="10.96.0.1"), 443, NONE),
    "the API server's own port": (Peer(address="192.168.1.10"), 6443, NONE),
    "the cloud's metadata": (Peer(address="169.254.169.254"), 80, NONE),
    "the cloud's metadata with TLS": (Peer(address="169.254.169.254"), 443, NONE),
    "the cloud's metadata over IPv6": (Peer(address="fd00:ec2::254"), 443, NONE),
    "the agent of pod identity": (Peer(address="169.254.170.23"), 80, NONE),
    "a machine of the company": (Peer(address="10.20.30.40"), 443, NONE),
    "another tenant": (STRANGER, 443, NONE),
    "another stage": (stage_pod("prepare"), 443, NONE),
}
"""The place, the port, and the stages that may reach it."""


@pytest.mark.parametrize("place", PLACES)
def test_reached_is(place: str) -> None:
    target, port, wanted = PLACES[place]
    reached = {stage for stage in STAGES if allows(policies(), stage_pod(stage), target, port)}
    assert reached == wanted


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_may_resolve_names(stage: StageName, protocol: str) -> None:
    assert allows(policies(), stage_pod(stage), DNS, 53, protocol)


VALUES: dict[str, tuple[dict[str, Any], Peer, int, frozenset[str]]] = {
    "the ports of the store": ({"store": {"to": STORE, "ports": [7070]}}, S3, 7070, ALL),
    "the store, by its address": (
        {"store": {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}},
        Peer(address="10.1.2.3"),
        443,
        ALL,
    ),
    "a token service beside the store": (
        {"store": {"to": [*STORE, {"ipBlock": {"cidr": "10.4.4.4/32"}}]}},
        Peer(address="10.4.4.4"),
        443,
        ALL,
    ),
    "the store beside a token service": (
        {"store": {"to": [*STORE, {"ipBlock": {"cidr": "10.4.4.4/32"}}]}},
        S3,
        443,
        ALL,
    ),
    "pod identity": ({"podIdentity": True}, Peer(address="169.254.170.23"), 80, ALL),
    "pod identity over IPv6": ({"podIdentity": True}, Peer(address="fd00:ec2::23"), 80, ALL),
    "one hub": (
        {"hubs": {"to": [{"ipBlock": {"cidr": "10.9.9.9/32"}}]}},
        Peer(address="10.9.9.9"),
        443,
        HUBS,
    ),
    "one hub, and no other": (
        {"hubs": {"to": [{"ipBlock": {"cidr": "10.9.9.9/32"}}]}},
        Peer(address="18.64.0.1"),
        443,
        NONE,
    ),
    "an operator elsewhere": ({"receiver": {"namespace": "ops"}}, operator_pod(), 8443, NONE),
}


@pytest.mark.parametrize("sentence", VALUES)
def test_reached_with_a_value_for(sentence: str) -> None:
    values, target, port, wanted = VALUES[sentence]
    reached = {stage for stage in STAGES if allows(policies(**values), stage_pod(stage), target, port)}
    assert reached == wanted


OUTSIDE: dict[str, tuple[Object, frozenset[str]]] = {
    "nothing more": ({"merged": {}}, NONE),
    "a page for TensorBoard, in the store": ({"trackers": [{"name": "tensorboard"}]}, NONE),
    "a model on a hub": ({"merged": {}, "publish": [{"to": "hf://owner/model"}]}, frozenset({"export"})),
    "a run on a tracker": (
        {"trackers": [{"name": "wandb", "project": "p", "connection": "store"}]},
        frozenset({"export"}),
    ),
}
"""What is to be made of an adapter, and the stages after the download that reach a hub for it."""


@pytest.mark.parametrize("sentence", OUTSIDE)
def test_a_hub_is_reached_after_the_download_for(sentence: str) -> None:
    export, wanted = OUTSIDE[sentence]
    hub, later = Peer(address="18.64.0.1"), STAGES[1:]
    assert {
        stage for stage in later if allows(policies(), stage_pod(stage, export=export), hub, 443)
    } == wanted


PAIR = stage_pod("train", nodes=2)
WAYS: dict[str, tuple[Peer, Peer, int, bool]] = {
    "another tenant reaches no stage": (STRANGER, stage_pod("train"), 8443, False),
    "pods of several nodes meet": (PAIR, PAIR, MEETING_PORT, True),
    "and so do their first ranks": (PAIR, PAIR, MEETING_PORT + 1, True),
    "a rank of theirs reaches another at the first of its ports": (PAIR, PAIR, PORTS[0], True),
    "and at the last": (PAIR, PAIR, PORTS[1], True),
    "but at no other port": (PAIR, PAIR, PORTS[1] + 1, False),
    "nor at one before": (PAIR, PAIR, MEETING_PORT - 1, False),
    "a training on one node reaches none on several": (stage_pod("train"), PAIR, MEETING_PORT, False),
    "nor is it reached": (PAIR, stage_pod("train"), MEETING_PORT, False),
    "another tenant's training on several nodes is not reached": (
        PAIR,
        stage_pod("train", "team-b", nodes=2),
        MEETING_PORT,
        False,
    ),
    "nor does it reach one": (stage_pod("train", "team-b", nodes=2), PAIR, MEETING_PORT, False),
    "pods of several nodes reach the store": (PAIR, S3, 443, True),
    "the operator reaches no stage": (operator_pod(), stage_pod("train"), 443, False),
    "the operator reaches the API server": (operator_pod(), Peer(address="10.96.0.1"), 443, True),
    "the operator resolves names": (operator_pod(), DNS, 53, True),
    "the operator reaches no store of plain HTTP": (operator_pod(), S3, 7070, False),
    "a stranger posts no progress": (STRANGER, operator_pod(), 8443, False),
    "a stage of a namespace without policies posts progress": (
        stage_pod("train", "team-b"),
        operator_pod(),
        8443,
        True,
    ),
    "a pod beside the stages is not kept from anything": (Peer(TEAM), STRANGER, 443, True),
}


@pytest.mark.parametrize("sentence", WAYS)
def test_of_the_others(sentence: str) -> None:
    source, target, port, wanted = WAYS[sentence]
    assert allows(policies(), source, target, port) is wanted

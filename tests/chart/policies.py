"""What NetworkPolicies allow, decided as a network that enforces them would: no cluster of ours does.

A connection is allowed when one policy allows it at each end; an end that no policy chooses allows all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

Object = dict[str, Any]
Direction = Literal["Ingress", "Egress"]
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """A pod, or, without a namespace, what is none. ports: of a pod, by name."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.244.0.9"
    ports: Mapping[str, int] = field(default_factory=dict)


def allows(policies: list[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies let a pod or address open a connection to a port of another."""
    ways: list[tuple[Direction, Peer, Peer]] = [("Egress", source, target), ("Ingress", target, source)]
    return all(
        any(_rule_allows(rule, other, target, port, protocol) for rule in _rules(chosen, way))
        for way, end, other in ways
        if (chosen := [policy for policy in policies if _chooses(policy, end, way)])
    )


def _chooses(policy: Object, pod: Peer, way: Direction) -> bool:
    spec = policy["spec"]
    is_there = policy["metadata"]["namespace"] == pod.namespace
    return is_there and way in spec["policyTypes"] and _selects(spec["podSelector"], pod.labels)


Rule = tuple[str, list[Object], list[Object]]


def _rules(policies: Iterable[Object], way: Direction) -> list[Rule]:
    """Of each rule the namespace, the ports and the peers."""
    peers = {"Ingress": "from", "Egress": "to"}[way]
    rules = ((policy, rule) for policy in policies for rule in policy["spec"].get(way.lower()) or [])
    return [
        (policy["metadata"]["namespace"], rule.get("ports") or [], rule.get(peers) or [])
        for policy, rule in rules
    ]


def _rule_allows(rule: Rule, other: Peer, target: Peer, port: int, protocol: str) -> bool:
    """A rule without ports is about all of them; one without peers, about everybody."""
    namespace, ports, peers = rule
    is_port = not ports or any(_is_port(each, target, port, protocol) for each in ports)
    return is_port and (not peers or any(_is_meant(peer, other, namespace) for peer in peers))


def _is_port(given: Object, target: Peer, port: int, protocol: str) -> bool:
    first = target.ports.get(given["port"], given["port"])
    return bool(given.get("protocol", "TCP") == protocol and first <= port <= given.get("endPort", first))


def _is_meant(peer: Object, other: Peer, namespace: str) -> bool:
    """namespace: of the policy, whose pods a peer means that names none."""
    if block := peer.get("ipBlock"):
        return _is_within(other.address, block)
    own = {"matchLabels": {NAMESPACE_LABEL: namespace}}
    return (
        bool(other.namespace)
        and _selects(peer.get("namespaceSelector", own), {NAMESPACE_LABEL: other.namespace})
        and _selects(peer.get("podSelector", {}), other.labels)
    )


def _is_within(address: str, block: Object) -> bool:
    where = ip_address(address)
    return where in ip_network(block["cidr"]) and not any(
        where in ip_network(hole) for hole in block.get("except", [])
    )


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        each["key"] in labels if each["operator"] == "Exists" else labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions") or []
    )

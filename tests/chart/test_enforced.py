"""A network that enforces the charts' NetworkPolicies decides as `chart.policies` says.

Every connection of the tables of `test_policies.py` is opened, and comes about or does not.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from chart.enforced import Connection, enforced, prepare
from chart.policies import allows
from chart.test_policies import DNS, OUTSIDE, PLACES, VALUES, WAYS, policies, stage_pod
from lorafinetune.contract.arguments import STAGES

HUB: Final = PLACES["a hub"][0]
AS_THEY_ARE: Final = [
    *(Connection(stage_pod(stage), target, port) for target, port, _ in PLACES.values() for stage in STAGES),
    *(Connection(stage_pod(stage), DNS, 53, protocol) for protocol in ("UDP", "TCP") for stage in STAGES),
    *(
        Connection(stage_pod(stage, export=export), HUB, 443)
        for export, _ in OUTSIDE.values()
        for stage in STAGES
    ),
    *(Connection(source, target, port) for source, target, port, _ in WAYS.values()),
]
NETWORKS: Final[dict[str, tuple[dict[str, Any], list[Connection]]]] = {
    "no value of its own": ({}, AS_THEY_ARE)
} | {
    sentence: (values, [Connection(stage_pod(stage), target, port) for stage in STAGES])
    for sentence, (values, target, port, _) in VALUES.items()
}
"""Values of the tenant's chart, and what is tried with them."""


@pytest.fixture(scope="module")
def found() -> dict[str, list[bool]]:
    """Of all networks at once: what is refused takes seconds, in which nothing is done."""
    prepare()
    with ThreadPoolExecutor(len(NETWORKS)) as pool:
        told = pool.map(lambda network: enforced(policies(**network[0]), network[1]), NETWORKS.values())
        return dict(zip(NETWORKS, told, strict=True))


@pytest.mark.parametrize("sentence", NETWORKS)
def test_a_network_decides_as_it_is_said_with(sentence: str, found: dict[str, list[bool]]) -> None:
    values, connections = NETWORKS[sentence]
    given = policies(**values)
    for each, came_about in zip(connections, found[sentence], strict=True):
        assert came_about is allows(given, each.source, each.target, each.port, each.protocol), each


def test_without_policies_everything_comes_about() -> None:
    prepare()
    assert all(enforced([], AS_THEY_ARE))

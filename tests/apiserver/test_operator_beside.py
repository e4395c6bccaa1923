"""Several operators on one API server, each with its own namespaces."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from apiserver.kubelet import Kubelet
from apiserver.operating import Namespace, Operator
from bench.operator.calls import BUDGET, calls
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from cluster.process import fetch
from lorafinetune.contract.arguments import STAGES

SHARES = (2, 1)
"""How many namespaces each operator has."""


class Share:
    """An operator, and its namespaces with one run in each. All runs have the same name and the same key."""

    def __init__(self, server: ApiServer, identity: Path, folder: Path, namespaces: int) -> None:
        folder.mkdir()
        self.namespaces = [Namespace(server, f"share-{secrets.token_hex(4)}") for _ in range(namespaces)]
        names = ",".join(namespace.name for namespace in self.namespaces)
        self.operator = Operator(identity, folder / "operator.log", names)

    def until_complete(self) -> None:
        for namespace in self.namespaces:
            namespace.until("same", "Complete")


@pytest.fixture
def shares(
    served: ApiServer, controllers: Controllers, identity: Path, tmp_path: Path
) -> Iterator[list[Share]]:
    made = [Share(served, identity, tmp_path / str(i), number) for i, number in enumerate(SHARES)]
    yield made
    for share in made:
        share.operator.stop()


def test_operators_side_by_side_handle_each_run_once_and_leave_those_of_the_other_alone(
    shares: list[Share],
) -> None:
    late, early = shares
    early.operator.launch()
    with ExitStack() as stack:
        nodes = [stack.enter_context(Kubelet(each)) for share in shares for each in share.namespaces]
        for share in shares:
            for namespace in share.namespaces:
                namespace.apply("same")
        early.until_complete()
        assert all(not namespace.jobs_of("same") for namespace in late.namespaces)
        late.operator.launch()
        late.until_complete()
    for node in nodes:
        assert {stage: len(uids) for stage, uids in node.seen.items()} == dict.fromkeys(STAGES, 1)
    for share in shares:
        spent = calls(fetch(f"{share.operator.url}/metrics").decode())
        assert spent["create jobs"] == BUDGET["create jobs"] * len(share.namespaces)
        assert share.operator.metric("lorafinetune_runs") == len(share.namespaces)
        assert share.operator.metric("lorafinetune_api_calls_total", code="409") == 0

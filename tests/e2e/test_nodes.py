"""A training on two pods that share its steps: it learns what one learns, and goes on where one is lost."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from chaos.ways import Way, cut
from cluster.single_node import SingleNode
from e2e.installation import Installation, until
from e2e.tenant import Object, Store, Tenant
from lorafinetune.contract.outcome import ExitCode
from lorafinetune.core.nodes import NODES_LABEL
from lorafinetune.core.pods import node_of, terminated
from lorafinetune_stages.train.node_connection import SILENCE_SECONDS
from lorafinetune_stages.train.nodes import LAST_WORDS_SECONDS

pytestmark = pytest.mark.e2e

EXACT: dict[str, Any] = {"training": {"lora": {"dropout": "0"}}}
"""Nothing is drawn that would differ with the number of ranks."""
TWO: dict[str, Any] = {"resources": {"train": {"nodes": 2}}}
LONG: dict[str, Any] = {"training": {"maxSteps": 4000, "checkpoint": {"every": 50}, "evaluation": None}}
NUMBERS = ("loss", "eval_loss", "num_input_tokens_seen")
KEEPER = "example.com/a-test-reads-it"
NOTICED_WITHIN = SILENCE_SECONDS + 2 * LAST_WORDS_SECONDS
Loss = Callable[[SingleNode, Sequence[Object]], AbstractContextManager[Sequence[Object]]]
"""What takes one of a pair from the other; it is given those that are left."""


@pytest.fixture
def other(installation: Installation, store: Store) -> Iterator[Tenant]:
    """One whose outputs lie elsewhere: how many nodes there are is in no key."""
    made = Tenant(installation, store)
    made.give_secret()
    yield made
    made.leave()


def losses(tenant: Tenant) -> list[list[float]]:
    """The log of a finished training."""
    place = f"{tenant.namespace}/trainings/"
    (text,) = (body for key, body in tenant.store.contents(place).items() if key.endswith("/metrics.jsonl"))
    rows = [json.loads(line) for line in text.decode().splitlines()]
    return [[row[name] for name in NUMBERS if name in row] for row in rows]


def running_pair(tenant: Tenant) -> list[Object]:
    """Both pods of the training, by node, once they run."""

    def running() -> list[Object]:
        pods = [pod for pod in tenant.pods("train") if pod["status"].get("phase") == "Running"]
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return sorted(staying, key=node_of) if len(staying) == 2 else []

    return until(running, 180)


def services(tenant: Tenant) -> list[str]:
    return tenant.kubectl("get", "services", "-o", "name").split()


def test_two_pods_learn_what_one_learns(tenant: Tenant, other: Tenant) -> None:
    tenant.apply(changes=EXACT)
    other.apply(changes=EXACT | TWO)
    pods = running_pair(other)
    assert {pod["metadata"]["labels"][NODES_LABEL] for pod in pods} == {"2"}
    alone, together = tenant.wait("Complete"), other.wait("Complete")
    assert together["stages"][2]["key"] == alone["stages"][2]["key"]
    for ours, theirs in zip(losses(other), losses(tenant), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@contextmanager
def kept(tenant: Tenant, pods: Sequence[Object]) -> Iterator[None]:
    """How the pods ended can be read while the block runs, whoever deletes them."""
    names = [pod["metadata"]["name"] for pod in pods]
    patch_all(tenant, names, {"finalizers": [KEEPER]})
    try:
        yield
    finally:
        patch_all(tenant, names, {"$deleteFromPrimitiveList/finalizers": [KEEPER]})


def patch_all(tenant: Tenant, names: Sequence[str], metadata: Object) -> None:
    tenant.kubectl("patch", "pod", *names, f"--patch={json.dumps({'metadata': metadata})}")


def exit_codes(tenant: Tenant, pods: Sequence[Object], within: float) -> list[int]:
    """With which the containers of the pods ended, once all have."""
    names = {pod["metadata"]["name"] for pod in pods}

    def ended() -> list[int]:
        found = terminated(pod for pod in tenant.pods("train") if pod["metadata"]["name"] in names)
        return [each["exitCode"] for each in found] if len(found) == len(names) else []

    return until(ended, within)


def both_go_on(tenant: Tenant) -> list[Object]:
    """The two pods that came instead, once their training is past its checkpoint. Nothing was counted."""
    until(lambda: tenant.status().get("resumes", 0) == 1, 180)
    pair = running_pair(tenant)
    step = tenant.status()["checkpoint"]["step"]
    until(lambda: tenant.status()["checkpoint"]["step"] > step, 120)
    status = tenant.status()
    assert status["resumes"] == 1
    assert {stage["attempts"] for stage in status["stages"]} == {0}
    assert "failure" not in status
    return pair


def test_both_go_on_from_the_checkpoint_where_one_is_deleted_and_all_of_it_goes_with_the_run(
    tenant: Tenant,
) -> None:
    tenant.apply(changes=LONG | TWO)
    tenant.wait_for_checkpoint()
    _, second = running_pair(tenant)
    tenant.kubectl("delete", "pod", second["metadata"]["name"], "--grace-period=0", "--force")
    first, _ = both_go_on(tenant)
    assert node_of(first) == 0
    assert len(services(tenant)) == 1
    tenant.kubectl("delete", "lorafinetune", "tune")
    until(lambda: not services(tenant) and not tenant.pods("train"), 120)


@contextmanager
def killed(node: SingleNode, pair: Sequence[Object]) -> Iterator[Sequence[Object]]:
    """The second is, and so was not asked to stop, nor did it say a word."""
    *left, second = pair
    (container,) = second["status"]["containerStatuses"]
    node.kill_container(container["containerID"])
    yield left


@contextmanager
def parted(node: SingleNode, pair: Sequence[Object]) -> Iterator[Sequence[Object]]:
    """Neither hears the other while the block runs; all others hear both."""
    one, other = (pod["status"]["podIP"] for pod in pair)
    ways = [Way("FORWARD", ("-s", source, "-d", sink)) for source, sink in ((one, other), (other, one))]
    with cut(node.run, ways) as packets:
        yield pair
        assert packets() > 0


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(killed, id="because it is killed"),
        pytest.param(parted, id="because nothing passes between them"),
    ],
)
def test_who_loses_the_other_says_so_by_its_exit_code_and_both_go_on_from_the_checkpoint(
    tenant: Tenant, lost: Loss
) -> None:
    cluster = tenant.installation.cluster
    if not cluster.is_ours:
        pytest.skip("only a node of our own may be harmed")
    tenant.apply(changes=LONG | TWO)
    tenant.wait_for_checkpoint()
    pair = running_pair(tenant)
    with kept(tenant, pair), lost(cluster.node, pair) as left:
        assert exit_codes(tenant, left, NOTICED_WITHIN) == [ExitCode.TEMPORARY] * len(left)
    both_go_on(tenant)

"""What a run costs the API server, from the resource to its end."""

import time

from apiserver.operating import Namespace, Operator
from bench.operator.calls import BUDGET, calls
from cluster.process import fetch


def test_a_whole_life_costs_what_the_budget_says(own_namespace: Namespace, own_operator: Operator) -> None:
    own_operator.start()

    def so_far() -> dict[str, int]:
        return calls(fetch(f"{own_operator.url}/metrics").decode())

    before = so_far()
    own_namespace.apply("life")
    for stage in ("download", "prepare", "train", "export"):
        pod = own_namespace.pod(own_namespace.job("life", stage))
        own_namespace.run(pod)
        own_namespace.finish("life", stage)
    own_namespace.told("life", "Complete")
    time.sleep(2)
    spent = {what: number - before.get(what, 0) for what, number in so_far().items()}
    assert {what: number for what, number in spent.items() if number} == BUDGET

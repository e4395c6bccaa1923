"""An operator keeps several connections open for each namespace that it serves."""

import secrets
from pathlib import Path

from apiserver.operating import Namespace, Operator
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers

MANY = 40


def test_an_operator_of_many_namespaces_serves_the_last_of_them(
    served: ApiServer, identity: Path, controllers: Controllers, tmp_path: Path
) -> None:
    prefix = f"many-{secrets.token_hex(4)}"
    namespaces = [Namespace(served, f"{prefix}-{number}") for number in range(MANY)]
    names = ",".join(namespace.name for namespace in namespaces)
    operator = Operator(identity, tmp_path / "operator.log", names)
    operator.start()
    try:
        for namespace in (namespaces[0], namespaces[-1]):
            namespace.apply("one")
            namespace.job("one", "download")
    finally:
        operator.stop()

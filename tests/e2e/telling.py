"""All that anybody is told of a tenant's runs: where a secret would stand if it leaked."""

from collections.abc import Iterable
from typing import Final

from e2e.installation import NAMESPACE
from e2e.tenant import Tenant

API: Final = "the API server"
METRICS: Final = "the operator's metrics"
LOG: Final = "the log of "
PROCESSES: Final = "the arguments of processes"
KINDS: Final = "lorafinetunes,jobs,pods,events,configmaps,serviceaccounts"
"""Arguments of containers stand in their pods."""
METRICS_PORT: Final = 8080


def told(tenant: Tenant, arguments: Iterable[bytes]) -> dict[str, bytes]:
    """By the place where it is told: the API server, logs, the operator's metrics, objects of the store, and
    what processes were started with."""
    api = {API: tenant.kubectl("get", KINDS, "--output=yaml").encode(), PROCESSES: b"\n".join(arguments)}
    return api | _of_stages(tenant) | _of_operator(tenant) | tenant.store.contents(f"{tenant.namespace}/")


def _of_stages(tenant: Tenant) -> dict[str, bytes]:
    client = tenant.installation.cluster.client
    begun = [pod for pod in tenant.pods() if pod["status"].get("phase") != "Pending"]
    names = [pod["metadata"]["name"] for pod in begun]
    return {f"{LOG}{name}": client.log(tenant.namespace, name).encode() for name in names}


def _of_operator(tenant: Tenant) -> dict[str, bytes]:
    installation = tenant.installation
    name = installation.operator_pod()
    page = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:{METRICS_PORT}/proxy/metrics"
    return {
        f"{LOG}{name}": installation.cluster.client.log(NAMESPACE, name).encode(),
        METRICS: installation.kubectl("get", "--raw", page).encode(),
    }

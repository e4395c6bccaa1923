"""A hub inside the cluster, with a dataset that only a token opens."""

from pathlib import Path
from typing import Any, Final

from cluster import images
from e2e.jobs import CONTAINER_SECURITY, POD_SECURITY
from e2e.tenant import Object, Tenant
from hubs import private

NAME: Final = "hub"
PORT: Final = 8000
LABELS: Final = {"app": NAME}
CODE: Final = "/code"


def give_token(tenant: Tenant, token: str) -> None:
    """The Secret of the tenant's connection."""
    tenant.apply_object(_object("Secret", stringData={"token": token}))


def open_hub(tenant: Tenant) -> None:
    """Brings it up, with the rows of the store, for whoever has the token that was given last."""
    modules = {name: Path(private.__file__).with_name(name).read_text() for name in private.MODULES}
    tenant.apply_object(_object("ConfigMap", data=modules))
    tenant.apply_object(_object("Service", spec={"selector": {"app": NAME}, "ports": [{"port": PORT}]}))
    tenant.apply_object(_pod(tenant))
    tenant.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"pod/{NAME}")


def dataset_of_hub(spec: Object, endpoint: str) -> Object:
    """The change of a spec that has it learn from the hub's dataset."""
    connection = {"name": NAME, "endpoint": endpoint, "secretRef": {"name": NAME}}
    return {
        "connections": [*spec["connections"], connection],
        "datasets": [{**private.DATASET, "connection": NAME}],
    }


def hub_of(tenant: Tenant) -> Object:
    """The change for a tenant."""
    endpoint = f"http://{NAME}.{tenant.namespace}.svc:{PORT}"
    return dataset_of_hub(tenant.store.spec(tenant.namespace), endpoint)


def _pod(tenant: Tenant) -> Object:
    token = {"secretKeyRef": {"name": NAME, "key": "token"}}
    (rows,) = tenant.store.contents("rows.jsonl").values()
    container = {
        "name": NAME,
        "image": tenant.installation.cluster.offer(images.base()),
        "command": ["python3", "-m", private.__name__, str(PORT)],
        "env": [
            {"name": "PYTHONPATH", "value": CODE},
            {"name": private.ROWS_VARIABLE, "value": rows.decode()},
            {"name": private.TOKEN_VARIABLE, "valueFrom": token},
        ],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": "code", "mountPath": f"{CODE}/hubs"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "code", "configMap": {"name": NAME}}],
    }
    return _object("Pod", spec=spec)


def _object(kind: str, **content: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": NAME, "labels": LABELS}, **content}

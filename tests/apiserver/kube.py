"""The resource's endpoints of an API server, as tests use them."""

import json
import ssl
import time
from dataclasses import dataclass
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import Request

from cluster.apiserver import ApiServer
from cluster.process import fetch
from lorafinetune.api.crd import crd

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RESOURCES = "/apis/lorafinetune.dev/v1alpha1/namespaces/default/lorafinetunes"
WITHIN = 30
REFUSALS = (400, 422)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

Json = Any


@dataclass(frozen=True)
class Answer:
    """An object that was accepted, or why it was refused."""

    accepted: bool
    body: Json

    @property
    def message(self) -> str:
        return str(self.body["message"])


def ask(server: ApiServer, method: str, path: str, body: Json = None) -> Answer:
    """A refusal is an answer; any other failure is an error."""
    try:
        return Answer(True, json.loads(server.request(method, path, body)))
    except HTTPError as error:
        with error:
            if error.code not in REFUSALS:
                raise
            return Answer(False, json.loads(error.read()))


def serve_resource(server: ApiServer) -> None:
    """Makes the API server serve LoRAFineTune."""
    answer = ask(server, "POST", f"{CRDS}?fieldValidation=Strict", crd())
    assert answer.accepted, answer.message
    deadline = time.monotonic() + WITHIN
    while "Established" not in established(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def established(server: ApiServer) -> set[str]:
    """The conditions of our CRD that are true."""
    body = ask(server, "GET", f"{CRDS}/{crd()['metadata']['name']}").body
    conditions = body["status"]["conditions"] or []
    return {condition["type"] for condition in conditions if condition["status"] == "True"}


def tried(server: ApiServer, resource: Json) -> Answer:
    """What creating a resource would lead to."""
    return ask(server, "POST", f"{RESOURCES}?dryRun=All&fieldValidation=Strict", resource)


def tried_status(server: ApiServer, resource: Json) -> Answer:
    """What replacing the status of an existing resource would lead to."""
    path = f"{RESOURCES}/{resource['metadata']['name']}/status?dryRun=All&fieldValidation=Strict"
    return ask(server, "PUT", path, resource)


def created(server: ApiServer, resource: Json) -> Json:
    """Creates a resource and reads it back."""
    ask(server, "POST", f"{RESOURCES}?fieldValidation=Strict", resource)
    return cast(Json, json.loads(server.request("GET", f"{RESOURCES}/{resource['metadata']['name']}")))


def columns(server: ApiServer, path: str) -> dict[str, Any]:
    """The one row that `kubectl get -o wide` would show, by the names of its columns."""
    request = Request(server.url + path, headers={"Authorization": f"Bearer {server.token}", "Accept": TABLE})
    table = json.loads(fetch(request, ssl.create_default_context(cafile=str(server.ca_file))))
    (row,) = table["rows"]
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, row["cells"], strict=True))

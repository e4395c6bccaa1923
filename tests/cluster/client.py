"""A client for any API server: what a kubeconfig says, and plain HTTP."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes.config
import yaml
from kubernetes.client import Configuration

from cluster.process import ServerError, fetch

APPLY = "application/apply-patch+yaml"
IRREGULAR = {"NetworkPolicy": "networkpolicies", "PriorityClass": "priorityclasses"}

Document = dict[str, Any]


class ApiError(OSError):
    """What the API server says when it does not do what it is asked: `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Client:
    """Speaks JSON with the API server that a kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        if not kubeconfig.is_file():
            raise FileNotFoundError(f"{kubeconfig} is not there")
        configuration = Configuration()
        load: Callable[..., None] = kubernetes.config.load_kube_config
        load(str(kubeconfig), client_configuration=configuration)
        self._url = configuration.host
        self._context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            self._context.load_cert_chain(configuration.cert_file, configuration.key_file)
        settings: Any = configuration.auth_settings()
        self._headers = {setting["key"]: setting["value"] for setting in settings.values()}

    def request(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> Document:
        """`kind` is the media type of `body`. Any answer but a good one is an ApiError."""
        data = None if body is None else json.dumps(body).encode()
        answer: Document = json.loads(self._fetch(method, path, data, {"Content-Type": kind}))
        return answer

    def get(self, path: str) -> Document:
        return self.request("GET", path)

    def log(self, namespace: str, pod: str) -> str:
        return self._fetch("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", None, {}).decode()

    def delete(self, path: str) -> None:
        self.request("DELETE", path, {"propagationPolicy": "Background"})

    def apply(self, document: Document) -> Document:
        """Create it, or make what is there like it."""
        path = f"{path_of(document)}?fieldManager=tests&force=true"
        return self.request("PATCH", path, document, APPLY)

    def apply_file(self, file: Path) -> list[Document]:
        return [self.apply(document) for document in yaml.safe_load_all(file.read_text())]

    def wait(self, path: str, until: Callable[[Document], bool], within: float = 60) -> Document:
        """The object at `path`, once `until` holds for it."""
        deadline = time.monotonic() + within
        while not until(found := self.get(path)):
            if time.monotonic() > deadline:
                raise ServerError(f"{path} is not as awaited after {within:.0f} s: {found.get('status')}")
            time.sleep(0.1)
        return found

    def _fetch(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> bytes:
        every = {**self._headers, **headers}
        request = urllib.request.Request(self._url + path, data, every, method=method)
        try:
            return fetch(request, self._context)
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, json.loads(error.read())["message"]) from error


def path_of(document: Document) -> str:
    """Where the API server keeps it. Without a namespace it is an object of the whole cluster."""
    version, metadata, kind = document["apiVersion"], document["metadata"], document["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{within}/{IRREGULAR.get(kind, f'{kind.lower()}s')}/{metadata['name']}"

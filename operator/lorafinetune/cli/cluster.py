"""The API server as kubectl reaches it: the same kubeconfig, contexts and credentials.

A request is sent once: the caller decides what is tried again.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

from lorafinetune.api import KIND, PLURAL
from lorafinetune.api.safetext import safe_line
from lorafinetune.cli.errors import CommandError
from lorafinetune.contract.outcome import ExitCode
from lorafinetune.shell.paths import path

Object = dict[str, Any]

JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
MANAGER: Final = "lorafinetune"
"""Whom the API server names as the owner of what is applied."""
PAGE: Final = 500
WATCH_SECONDS: Final = 300
QUIET_SECONDS: Final = 90
"""A watch that says nothing for longer is broken: the API server sends a bookmark every minute."""
ANSWER_SECONDS: Final = 30

HINTS: Final = {
    "Unauthorized": "Log in again, or choose another user with --context.",
    "Forbidden": "Ask for a role that allows it: lorafinetune-view or lorafinetune-edit.",
    "NoAnswer": "Check the network, and with --context that it is the right cluster.",
    "Conflict": "Take the fields over with --force-conflicts, or leave them out of the file.",
    "Invalid": "Edit the field that is named.",
}
POLICY: Final = "ValidatingAdmissionPolicy"
"""Whose message says itself what to do; a role would not help against some of them."""
NOT_SERVED: Final = f"The cluster has no {KIND}: install the operator's chart first."
NO_SUCH_NAMESPACE: Final = "Create the namespace, or give another one with --namespace."
NO_SUCH_RUN: Final = "`lorafinetune list -A` shows what there is."
TEMPORARY: Final = (0, 429, 500, 502, 503, 504)


class ApiError(CommandError):
    """An answer that is no success. status: of HTTP, 0 for no answer. reason: Kubernetes' word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        told = safe_line(message)
        super().__init__(f"{reason}: {told}. {_hint(reason, told)}".strip(), _code(status))
        self.status = status
        self.reason = reason

    @property
    def passes(self) -> bool:
        """Whether the same request may do well a little later."""
        return self.status in TEMPORARY


class Response(Protocol):
    """What is needed of an answer as it arrives."""

    status: int

    def stream(self, amt: int = ...) -> Iterator[bytes]: ...
    def release_conn(self) -> None: ...


Send = Callable[[str, str, Mapping[str, str], bytes | None, float], Response]
"""Method, URL, headers, body and the longest silence in seconds → the answer, unread. Raises ApiError."""


@dataclass(frozen=True)
class Cluster:
    """One API server, and the namespace that is meant where none is named. Every method raises ApiError."""

    server: str
    namespace: str
    send: Send

    def get(self, where: str, query: Mapping[str, str] = {}) -> Object:
        return self._ask("GET", where, query)

    def run(self, name: str) -> Object:
        """A LoRAFineTune as it is now."""
        return self.get(self._where_run(name))

    def where(self, plural: str, name: str = "", sub: str = "") -> str:
        """The path of an object of the namespace, whatever a person typed for its name."""
        return path(plural, quote(self.namespace, safe=""), quote(name, safe=""), sub)

    def merge(self, name: str, change: Object) -> Object:
        """Lays a change over a LoRAFineTune; what it became."""
        return self._patch(name, change, MERGE, {})

    def apply(self, name: str, resource: Object, force: bool) -> Object:
        """Makes or changes a LoRAFineTune; force: takes over fields that others own."""
        query = {"fieldValidation": "Strict", "force": str(force).lower()}
        return self._patch(name, resource, APPLY, query)

    def list(self, plural: str, namespace: str | None, query: Mapping[str, str] = {}) -> Iterator[Object]:
        """Every object of a kind. namespace: None is the whole cluster."""
        more = ""
        while True:
            wanted = {**query, "limit": str(PAGE)} | ({"continue": more} if more else {})
            page = self.get(path(plural, namespace and quote(namespace, safe="")), wanted)
            yield from page.get("items") or ()
            more = page["metadata"].get("continue", "")
            if not more:
                return

    def watch(self, plural: str, query: Mapping[str, str]) -> Iterator[tuple[str, Object]]:
        """Types and objects of what happens, until the API server ends the watch."""
        wanted = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        for line in self.lines(self.where(plural), {**wanted, **query}, QUIET_SECONDS):
            told = _object(line)
            if told.get("type") == "ERROR":
                raise _error(int(told["object"].get("code", 500)), line, told["object"])
            yield str(told["type"]), told["object"]

    def lines(self, where: str, query: Mapping[str, str], quiet: float) -> Iterator[bytes]:
        """An answer line by line as it arrives. quiet: the longest silence in seconds."""
        response = self._send("GET", where, query, None, JSON, quiet)
        rest = b""
        try:
            for chunk in response.stream(2**16):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
            if rest:
                yield rest
        finally:
            response.release_conn()

    def _where_run(self, name: str) -> str:
        if not name.strip("."):
            raise ApiError(404, "NotFound", f'{PLURAL} "{name}" not found')
        return self.where(PLURAL, name)

    def _patch(self, name: str, body: Object, kind: str, query: Mapping[str, str]) -> Object:
        return self._ask("PATCH", self._where_run(name), {"fieldManager": MANAGER, **query}, body, kind)

    def _ask(
        self, method: str, where: str, query: Mapping[str, str], body: Object | None = None, kind: str = JSON
    ) -> Object:
        data = None if body is None else json.dumps(body).encode()
        response = self._send(method, where, query, data, kind, ANSWER_SECONDS)
        return _object(b"".join(response.stream()))

    def _send(
        self, method: str, where: str, query: Mapping[str, str], body: bytes | None, kind: str, quiet: float
    ) -> Response:
        url = f"{self.server}{where}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": JSON, "Content-Type": kind, "User-Agent": MANAGER}
        response = self.send(method, url, headers, body, quiet)
        if response.status >= 400:
            text = b"".join(response.stream())
            raise _error(response.status, text, _status(text))
        return response


def _object(text: bytes) -> Object:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ApiError(0, "NoAnswer", "what answers is no Kubernetes API server")
    return told


def _status(text: bytes) -> Object:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _error(status: int, text: bytes, told: Object) -> ApiError:
    message = str(told.get("message") or text[:300].decode(errors="replace") or f"HTTP status {status}")
    return ApiError(status, str(told.get("reason") or "ServerError"), message)


def _hint(reason: str, message: str) -> str:
    if reason == "NotFound" and message.startswith("namespaces "):
        return NO_SUCH_NAMESPACE
    if reason == "NotFound":
        return NOT_SERVED if "could not find the requested resource" in message else NO_SUCH_RUN
    return "" if POLICY in message else HINTS.get(reason, "")


def _code(status: int) -> ExitCode:
    return ExitCode.TEMPORARY if status in TEMPORARY else ExitCode.BAD_INPUT

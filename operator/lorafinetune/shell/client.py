"""Asks the API server, and passes on what it answered: it retries only when the server asks for that.

A request that the server puts off was not handled, and is sent again later. The caller decides what any
other error means. An unexpected error ends the reconciliation of a resource, which the queue repeats.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp

from lorafinetune.shell.paths import path
from lorafinetune.shell.projections import Object

MERGE_PATCH: Final = "application/merge-patch+json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE: Final = 500
WATCH_SECONDS: Final = 60
TOO_MANY_REQUESTS: Final = 429
DEFERRALS: Final = 3
LONGEST_DEFERRAL: Final = 30.0
"""Seconds."""
LONGEST_LINE: Final = 4 * 2**20
"""Bytes of one event of a watch: more than etcd keeps of an object."""


class ApiError(Exception):
    """An answer that is no success. code: the HTTP status, 0 for no answer. reason: Kubernetes' word.
    later: after how many seconds the same request is welcome; None where the answer does not say."""

    def __init__(self, code: int, reason: str, message: str, later: float | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.later = later


class Client:
    """Speaks JSON with the API server. Every method raises ApiError."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def get(self, where: str) -> dict[str, Any]:
        return await self._ask("GET", where)

    async def items(self, where: str, **selector: str) -> list[dict[str, Any]]:
        """Objects of a collection as they are now. selector: labelSelector or fieldSelector."""
        answer = await self._ask("GET", where, query=selector)
        found: list[dict[str, Any]] = answer.get("items") or []
        return found

    async def create(self, where: str, body: Object) -> dict[str, Any]:
        return await self._ask("POST", where, body)

    async def replace(self, where: str, body: Object) -> dict[str, Any]:
        return await self._ask("PUT", where, body)

    async def patch(self, where: str, body: Object) -> dict[str, Any]:
        return await self._ask("PATCH", where, body, {"Content-Type": MERGE_PATCH})

    async def delete(self, where: str, uid: str) -> dict[str, Any]:
        """Foreground: the object stays until its dependents are gone."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        return await self._ask("DELETE", where, options)

    async def metadata(self, plural: str, namespace: str | None, selector: str) -> AsyncIterator[Object]:
        """The metadata of all objects of a kind."""
        query = {"limit": str(PAGE), "labelSelector": selector, "continue": ""}
        headers = {"Accept": METADATA_ONLY}
        while True:
            page = await self._ask("GET", path(plural, namespace), headers=headers, query=query)
            for item in page.get("items") or ():
                yield item["metadata"]
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    async def watch(
        self, plural: str, namespace: str | None, query: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Types and objects of what happens, until the API server ends the watch."""
        every = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=2 * WATCH_SECONDS)
        url = self._server + path(plural, namespace)
        try:
            async with self._session.get(
                url, params=every, timeout=timeout, read_bufsize=LONGEST_LINE
            ) as response:
                await _check(response)
                async for line in response.content:
                    told = json.loads(line)
                    yield told["type"], told["object"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            raise ApiError(0, "NoAnswer", repr(problem)) from problem

    async def _ask(
        self,
        method: str,
        where: str,
        body: Object | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        for _ in range(DEFERRALS):
            try:
                return await self._ask_once(method, where, body, headers, query)
            except ApiError as problem:
                if problem.later is None:
                    raise
                await asyncio.sleep(problem.later)
        return await self._ask_once(method, where, body, headers, query)

    async def _ask_once(
        self,
        method: str,
        where: str,
        body: Object | None,
        headers: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        url = self._server + where
        data = None if body is None else json.dumps(body).encode()
        every = {"Content-Type": "application/json", **(headers or {})}
        try:
            async with self._session.request(method, url, data=data, headers=every, params=query) as response:
                await _check(response)
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            raise ApiError(0, "NoAnswer", repr(problem)) from problem


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    text = await response.text(errors="replace")
    try:
        told = json.loads(text)
        reason, message = str(told.get("reason", "")), str(told.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = response.reason or "", text[:500]
    raise ApiError(response.status, reason, message, _later(response))


def _later(response: aiohttp.ClientResponse) -> float | None:
    seconds = response.headers.get("Retry-After", "")
    if response.status != TOO_MANY_REQUESTS or not (seconds.isascii() and seconds.isdigit()):
        return None
    return min(float(seconds), LONGEST_DEFERRAL)

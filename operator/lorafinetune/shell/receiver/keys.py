"""The keys with which the cluster signs the tokens of its service accounts.

They are read from the API server, never from where its discovery document points: the operator has
no business outside the cluster.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt import InvalidKeyError, PyJWK, PyJWKError

log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Reads one path of the API server, and decodes its JSON. It may raise whatever its client raises."""

DISCOVERY: Final = "/.well-known/openid-configuration"
KEY_SET: Final = "/openid/v1/jwks"
ALGORITHMS: Final = frozenset({"RS256", "ES256", "ES384", "ES512"})
"""What an API server signs with."""
GOOD_FOR_SECONDS: Final = 3600.0
"""A key that was taken out of use is believed no longer than this."""
MIN_INTERVAL_SECONDS: Final = 30.0
"""Between two readings: a stranger's tokens with made-up key names cost no more."""
READ_SECONDS: Final = 5.0


class KeysUnavailableError(Exception):
    """The keys can't be read now, so a token can't be verified here."""


@dataclass(frozen=True)
class Issuer:
    """Who signs, and with what. keys: by their names."""

    name: str
    keys: Mapping[str, PyJWK]


class Keys:
    """Keeps the keys, and reads them again when they are old or a token names an unknown one."""

    def __init__(self, read: Read, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._issuer: Issuer | None = None
        self._read_at = self._tried_at = float("-inf")
        self._turn = asyncio.Lock()
        self._failing = False

    async def find(self, name: str) -> tuple[str, PyJWK] | None:
        """The issuer and its key of that name, if it has one. Raises KeysUnavailableError."""
        if name not in self._fresh():
            async with self._turn:
                if name not in self._fresh() and self._clock() - self._tried_at >= MIN_INTERVAL_SECONDS:
                    await self._refresh()
        keys = self._fresh()
        if self._issuer is None or not keys:
            raise KeysUnavailableError
        return (self._issuer.name, keys[name]) if name in keys else None

    def _fresh(self) -> Mapping[str, PyJWK]:
        old = self._clock() - self._read_at >= GOOD_FOR_SECONDS
        return {} if self._issuer is None or old else self._issuer.keys

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(READ_SECONDS):
                self._issuer = issuer(await self._read(DISCOVERY), await self._read(KEY_SET))
        except Exception as problem:  # whatever the client raises, the review of single tokens is left
            if not self._failing:
                log.warning("the keys of the cluster's tokens can't be read: %r", problem)
            self._failing = True
            return
        if self._failing:
            log.info("the keys of the cluster's tokens can be read again")
        self._read_at, self._failing = self._clock(), False


def issuer(discovery: Mapping[str, Any], key_set: Mapping[str, Any]) -> Issuer:
    """From the API server's two documents. Raises ValueError where there is nothing to verify with."""
    name, documents = discovery.get("issuer"), key_set.get("keys")
    keys = dict(_usable(documents)) if isinstance(documents, list) else {}
    if not isinstance(name, str) or not name or not keys:
        raise ValueError(f"{DISCOVERY} names no issuer, or {KEY_SET} holds no key that we know")
    return Issuer(name, keys)


def _usable(documents: Sequence[Any]) -> Iterator[tuple[str, PyJWK]]:
    for document in documents:
        try:
            key = PyJWK(document)
        except (PyJWKError, InvalidKeyError, AttributeError):
            continue
        if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str):
            yield key.key_id, key

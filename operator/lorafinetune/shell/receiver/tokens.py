"""Which pod posts: a projected token → a live pod of one of our Jobs.

Tokens are verified here, by the cluster's own keys, so a thousand pods cost the API server nothing.
Where the keys can't be read, the API server is asked about each token (TokenReview).
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorafinetune.core.jobs import PROGRESS_AUDIENCE
from lorafinetune.shell.receiver.keys import ALGORITHMS, Keys, KeysUnavailableError

Review = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Creates a TokenReview and returns the API server's answer. It may raise whatever its client raises."""

LEEWAY_SECONDS: Final = 10
REVIEW_SECONDS: Final = 5.0
REVIEWS_AT_ONCE: Final = 4
REVIEWED_FOR_SECONDS: Final = 60.0
MAX_REVIEWED: Final = 4096
CLAIMS: Final = ["exp", "iss", "aud"]
GARBLED: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What a hostile token can make of its decoding."""


@dataclass(frozen=True)
class LivePod:
    """A pod of one of our Jobs, as last observed. ended: none of its containers will run again."""

    namespace: str
    name: str
    uid: str
    job_name: str
    ended: bool


class UnauthenticatedError(Exception):
    """The token is no token of this cluster for this use."""


class ForbiddenError(Exception):
    """The token is good, but whoever holds it has nothing to report."""


class UnavailableError(Exception):
    """The token can be verified neither here nor by the API server."""


class _Reference(BaseModel):
    name: str
    uid: str


class _Bound(BaseModel):
    """The private claims of a token: what it is bound to."""

    namespace: str
    pod: _Reference


class _Claims(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    bound: _Bound = Field(alias="kubernetes.io")


class Tokens:
    """Tells the pod that a token belongs to. pods: the live pod with that uid, if it is one of ours."""

    def __init__(
        self,
        keys: Keys,
        review: Review,
        pods: Callable[[str], LivePod | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._review = review
        self._pods = pods
        self._clock = clock
        self._slots = asyncio.Semaphore(REVIEWS_AT_ONCE)
        self._reviewed: dict[bytes, float] = {}
        """Until when a token that the API server has confirmed is believed, by the token's digest."""

    async def pod(self, authorization: str) -> LivePod:
        """Whose token stands in the header. Raises the three errors above."""
        token = _bearer(authorization)
        try:
            found = await self._keys.find(_key_name(token))
        except KeysUnavailableError:
            return await self._reviewed_pod(token)
        if found is None:
            raise UnauthenticatedError("the token is signed with a key that this cluster does not have")
        return self._live(_verified(token, *found))

    async def _reviewed_pod(self, token: str) -> LivePod:
        """Asks the API server, but only about tokens that can be good."""
        pod = self._live(_unverified(token))
        digest = hashlib.sha256(token.encode()).digest()
        if self._reviewed.get(digest, float("-inf")) <= self._clock():
            if pod.uid not in await self._confirmed_uids(token):
                raise UnauthenticatedError("the API server does not know the token")
            if len(self._reviewed) >= MAX_REVIEWED:
                self._reviewed.clear()
            self._reviewed[digest] = self._clock() + REVIEWED_FOR_SECONDS
        return pod

    async def _confirmed_uids(self, token: str) -> list[str]:
        """The pod that the API server says a token is bound to; none if it does not know the token."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [PROGRESS_AUDIENCE]},
        }
        try:
            async with asyncio.timeout(REVIEW_SECONDS), self._slots:
                status = dict((await self._review(body)).get("status") or {})
        except Exception as problem:  # whatever the client raises
            raise UnavailableError("the token can't be verified now") from problem
        if not status.get("authenticated") or PROGRESS_AUDIENCE not in (status.get("audiences") or ()):
            return []
        extra = (status.get("user") or {}).get("extra") or {}
        return list(extra.get("authentication.kubernetes.io/pod-uid") or ())

    def _live(self, claims: Mapping[str, Any]) -> LivePod:
        try:
            bound = _Claims.model_validate(claims).bound
        except ValidationError as problem:
            raise ForbiddenError("the token is not bound to a pod") from problem
        pod = self._pods(bound.pod.uid)
        if pod is None or pod.ended or (pod.namespace, pod.name) != (bound.namespace, bound.pod.name):
            raise ForbiddenError("the token's pod is not a live pod of a LoRAFineTune's Job")
        return pod


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError("there is no bearer token")
    return token.strip()


def _key_name(token: str) -> str:
    try:
        name = jwt.get_unverified_header(token).get("kid")
    except GARBLED as problem:
        raise UnauthenticatedError("the token is garbled") from problem
    if not isinstance(name, str):
        raise UnauthenticatedError("the token names no key")
    return name


def _verified(token: str, issuer: str, key: jwt.PyJWK) -> Mapping[str, Any]:
    return _decode(token, {"require": CLAIMS}, key=key, algorithms=[key.algorithm_name], issuer=issuer)


def _unverified(token: str) -> Mapping[str, Any]:
    """The claims of a token of which only the signature and the issuer are still in doubt."""
    options = {"require": CLAIMS, "verify_signature": False, "verify_exp": True, "verify_aud": True}
    return _decode(token, options | {"verify_nbf": True}, algorithms=sorted(ALGORITHMS))


def _decode(token: str, options: Mapping[str, Any], **known: Any) -> Mapping[str, Any]:
    decode: Callable[..., dict[str, Any]] = jwt.decode
    try:
        return decode(token, audience=PROGRESS_AUDIENCE, leeway=LEEWAY_SECONDS, options=options, **known)
    except GARBLED as problem:
        raise UnauthenticatedError(f"the token is refused: {type(problem).__name__}") from problem

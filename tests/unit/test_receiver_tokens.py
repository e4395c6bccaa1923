"""Which pod a token belongs to, and who is turned away."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lorafinetune.shell.receiver.keys import GOOD_FOR_SECONDS, MIN_INTERVAL_SECONDS, Keys, issuer
from lorafinetune.shell.receiver.tokens import (
    REVIEWED_FOR_SECONDS,
    ForbiddenError,
    LivePod,
    Tokens,
    UnauthenticatedError,
    UnavailableError,
)
from shell.issuing import ENDED, POD, PODS, Cluster, claims, handmade, keys, public, signed, token


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Door:
    """Tokens of a cluster, with a clock."""

    def __init__(self, cluster: Cluster) -> None:
        self.clock = Clock()
        self.tokens = Tokens(Keys(cluster.read, self.clock), cluster.review, PODS.get, self.clock)

    def asks(self, *shown: str) -> LivePod | type[Exception]:
        """What the last of some tokens, shown one after the other, leads to."""
        return asyncio.run(self._asks(*shown))

    async def _asks(self, *shown: str) -> LivePod | type[Exception]:
        answer: LivePod | type[Exception] = AssertionError
        for each in shown:
            try:
                answer = await self.tokens.pod(f"Bearer {each}")
            except (UnauthenticatedError, ForbiddenError, UnavailableError) as problem:
                answer = type(problem)
        return answer


def tampered() -> str:
    """The claims of one token under the signature of another."""
    header, _, signature = token(ENDED).split(".")
    return f"{header}.{token().split('.')[1]}.{signature}"


def confused() -> str:
    """Signed by HMAC, with the public key as the secret."""
    pem = keys()["rsa"][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return handmade({"alg": "HS256", "typ": "JWT", "kid": "rsa"}, claims(), pem)


STRANGER = LivePod("team-b", "job-xyz", "uid-9", "job", ended=False)
REFUSED: dict[str, tuple[Callable[[], str], type[Exception]]] = {
    "no token": (lambda: "", UnauthenticatedError),
    "a word": (lambda: "secret", UnauthenticatedError),
    "three garbled parts": (lambda: "a.b.c", UnauthenticatedError),
    "letters that no token has": (lambda: "ü.é.\x00", UnauthenticatedError),
    "a header nested too deeply": (
        lambda: handmade({}, {}).replace("e30", "W1tb" * 1500, 1),
        UnauthenticatedError,
    ),
    "a header that is no object": (
        lambda: handmade([], {}),  # type: ignore[arg-type]  # what no token has
        UnauthenticatedError,
    ),
    "one that names no key": (lambda: handmade({"alg": "ES256"}, claims()), UnauthenticatedError),
    "one with a number as its key's name": (
        lambda: handmade({"alg": "ES256", "kid": 1}, claims()),
        UnauthenticatedError,
    ),
    "one with no signature": (
        lambda: handmade({"alg": "none", "kid": "elliptic"}, claims()),
        UnauthenticatedError,
    ),
    "one signed with the public key as a secret": (confused, UnauthenticatedError),
    "one of a key with another's name": (
        lambda: signed(claims(), "foreign", "elliptic"),
        UnauthenticatedError,
    ),
    "one of a key of another kind": (lambda: signed(claims(), "rsa", "elliptic"), UnauthenticatedError),
    "one of another cluster": (lambda: token(key="foreign"), UnauthenticatedError),
    "one whose claims were changed": (tampered, UnauthenticatedError),
    "an expired one": (lambda: token(exp=int(time.time()) - 60), UnauthenticatedError),
    "one that is not valid yet": (lambda: token(nbf=int(time.time()) + 60), UnauthenticatedError),
    "one that never expires": (lambda: token(exp=None), UnauthenticatedError),
    "one for the API server": (lambda: token(aud=["https://kubernetes.default.svc"]), UnauthenticatedError),
    "one for nobody": (lambda: token(aud=None), UnauthenticatedError),
    "one of another issuer": (lambda: token(iss="https://other.example"), UnauthenticatedError),
    "one with no issuer": (lambda: token(iss=None), UnauthenticatedError),
    "one that is bound to nothing": (lambda: signed(claims() | {"kubernetes.io": None}), ForbiddenError),
    "one that is bound to a Secret": (
        lambda: signed(
            claims() | {"kubernetes.io": {"namespace": "team-a", "secret": {"name": "s", "uid": "u"}}}
        ),
        ForbiddenError,
    ),
    "one of a pod that ended": (lambda: token(ENDED), ForbiddenError),
    "one of a pod that is not ours": (lambda: token(STRANGER), ForbiddenError),
    "one of a pod with our uid in another namespace": (
        lambda: token(replace(POD, namespace="team-b")),
        ForbiddenError,
    ),
    "one of a pod with our uid and another name": (lambda: token(replace(POD, name="other")), ForbiddenError),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_refuses(sentence: str) -> None:
    make, expected = REFUSED[sentence]
    assert Door(Cluster()).asks(make()) is expected


@pytest.mark.parametrize("sentence", REFUSED)
def test_refuses_also_where_the_api_server_must_be_asked(sentence: str) -> None:
    make, expected = REFUSED[sentence]
    cluster = Cluster(readable=False)
    assert Door(cluster).asks(make()) is expected


@pytest.mark.parametrize("key", ["elliptic", "rsa"])
def test_a_token_of_a_live_pod_is_good(key: str) -> None:
    assert Door(Cluster()).asks(token(key=key)) == POD


def test_other_schemes_are_no_bearers() -> None:
    door = Door(Cluster())
    with pytest.raises(UnauthenticatedError):
        asyncio.run(door.tokens.pod(f"Basic {token()}"))


def test_keys_are_read_once_for_many_tokens() -> None:
    cluster = Cluster()
    assert Door(cluster).asks(*[token()] * 5) == POD
    assert len(cluster.reads) == 2


def test_an_unknown_key_is_looked_for_once_in_a_while() -> None:
    cluster = Cluster()
    door = Door(cluster)
    door.asks(token(), *[token(key="foreign")] * 9)
    assert len(cluster.reads) == 2
    door.clock.now += MIN_INTERVAL_SECONDS
    door.asks(*[token(key="foreign")] * 9)
    assert len(cluster.reads) == 4


def test_a_new_key_of_the_cluster_is_found() -> None:
    cluster = Cluster(known=["rsa"])
    door = Door(cluster)
    assert door.asks(token(key="rsa")) == POD
    cluster.known.append("elliptic")
    door.clock.now += MIN_INTERVAL_SECONDS
    assert door.asks(token()) == POD


def test_a_key_that_was_taken_out_of_use_is_forgotten() -> None:
    cluster = Cluster()
    door = Door(cluster)
    assert door.asks(token()) == POD
    cluster.known.remove("elliptic")
    door.clock.now += GOOD_FOR_SECONDS
    assert door.asks(token()) is UnauthenticatedError


def test_the_keys_once_read_outlive_an_outage() -> None:
    cluster = Cluster()
    door = Door(cluster)
    door.asks(token())
    cluster.readable, cluster.vouched = False, None
    door.clock.now += GOOD_FOR_SECONDS - 1
    assert door.asks(token()) == POD


def test_without_keys_the_api_server_vouches_for_a_token() -> None:
    shown = token()
    cluster = Cluster(readable=False, vouched={shown: POD.uid})
    door = Door(cluster)
    assert door.asks(shown, shown) == POD
    assert cluster.reviews == [shown]
    door.clock.now += REVIEWED_FOR_SECONDS
    assert door.asks(shown) == POD
    assert len(cluster.reviews) == 2


def test_the_api_server_is_not_asked_about_tokens_that_can_not_be_good() -> None:
    cluster = Cluster(readable=False)
    door = Door(cluster)
    hopeless = (token(STRANGER), token(ENDED), token(aud=["x"]), token(exp=1), "garbled")
    door.asks(*hopeless)
    assert cluster.reviews == []


def test_a_token_that_is_vouched_for_as_another_pods_is_refused() -> None:
    shown = token()
    assert Door(Cluster(readable=False, vouched={shown: "uid-9"})).asks(shown) is UnauthenticatedError


def test_while_nobody_can_tell_the_token_is_neither_good_nor_bad() -> None:
    assert Door(Cluster(readable=False, vouched=None)).asks(token()) is UnavailableError


def test_keys_that_can_be_read_again_are_used_again() -> None:
    cluster = Cluster(readable=False)
    door = Door(cluster)
    assert door.asks(token()) is UnauthenticatedError
    cluster.readable = True
    door.clock.now += MIN_INTERVAL_SECONDS
    assert door.asks(token()) == POD


def test_a_secret_among_the_public_keys_is_no_key() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
    found = issuer({"issuer": "i"}, {"keys": [secret, {}, {"kty": "EC"}, None, public("rsa")]})
    assert list(found.keys) == ["rsa"]


@pytest.mark.parametrize(
    "documents", [({}, {}), ({"issuer": "i"}, {"keys": []}), ({"issuer": 1}, {"keys": {}})]
)
def test_without_issuer_or_key_nothing_can_be_verified(documents: tuple[dict[str, object], ...]) -> None:
    with pytest.raises(ValueError, match="no issuer"):
        issuer(*documents)

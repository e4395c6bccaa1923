"""A cluster that signs tokens for its pods, as far as the receiver can tell."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from lorafinetune.core.jobs import PROGRESS_AUDIENCE
from lorafinetune.shell.receiver import LivePod
from lorafinetune.shell.receiver.keys import DISCOVERY, KEY_SET

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
POD: Final = LivePod("team-a", "lft-train-0123-xyz", "uid-1", "lft-train-0123", ended=False)
ENDED: Final = LivePod("team-a", "tune-download-0123-xyz", "uid-2", "tune-download-0123", ended=True)
PODS: Final = {pod.uid: pod for pod in (POD, ENDED)}

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def keys() -> dict[str, tuple[str, Key]]:
    """Algorithm and key by the key's name; the last is of another cluster."""
    return {
        "elliptic": ("ES256", ec.generate_private_key(ec.SECP256R1())),
        "rsa": ("RS256", rsa.generate_private_key(65537, 2048)),
        "foreign": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    }


def public(name: str) -> dict[str, Any]:
    """The public half as the API server shows it."""
    algorithm, key = keys()[name]
    half = key.public_key()
    document = (
        ECAlgorithm.to_jwk(half, as_dict=True)
        if isinstance(half, ec.EllipticCurvePublicKey)
        else RSAAlgorithm.to_jwk(half, as_dict=True)
    )
    return {key: value for key, value in document.items() if key != "key_ops"} | {
        "kid": name,
        "alg": algorithm,
        "use": "sig",
    }


def claims(pod: LivePod = POD, **changes: Any) -> dict[str, Any]:
    """What a projected token of a pod says. changes: of the claims; None takes one away."""
    now = int(time.time())
    made = {
        "aud": [PROGRESS_AUDIENCE],
        "exp": now + 3600,
        "iat": now,
        "iss": ISSUER,
        "kubernetes.io": {
            "namespace": pod.namespace,
            "node": {"name": "node-1", "uid": "uid-node"},
            "pod": {"name": pod.name, "uid": pod.uid},
            "serviceaccount": {"name": "default", "uid": "uid-account"},
        },
        "nbf": now,
        "sub": f"system:serviceaccount:{pod.namespace}:default",
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def signed(payload: Mapping[str, Any], key: str = "elliptic", kid: str | None = None) -> str:
    """kid: the name that the token gives its key."""
    algorithm, private = keys()[key]
    return jwt.encode(dict(payload), private, algorithm, {"kid": kid or key})


def token(pod: LivePod = POD, key: str = "elliptic", **changes: Any) -> str:
    return signed(claims(pod, **changes), key)


def handmade(header: Mapping[str, Any], payload: Mapping[str, Any], secret: bytes = b"") -> str:
    """A token that no library would make; with a secret, signed by HMAC."""
    content = ".".join(_encoded(json.dumps(part).encode()) for part in (header, payload))
    mac = hmac.new(secret, content.encode(), hashlib.sha256).digest() if secret else b""
    return f"{content}.{_encoded(mac)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class AwayError(Exception):
    """What the API server's client raises when it does not reach it."""


@dataclass
class Cluster:
    """The API server's side. known: names of its keys. readable: whether its keys can be read. vouched: the
    tokens that a TokenReview confirms, with the uid of their pods; None: there is no answer."""

    known: list[str] = field(default_factory=lambda: ["elliptic", "rsa"])
    readable: bool = True
    vouched: dict[str, str] | None = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    reviews: list[str] = field(default_factory=list)

    async def read(self, path: str) -> Mapping[str, Any]:
        self.reads.append(path)
        if not self.readable:
            raise AwayError(path)
        documents: dict[str, dict[str, Any]] = {
            DISCOVERY: {"issuer": ISSUER, "jwks_uri": "https://elsewhere.example/keys"},
            KEY_SET: {"keys": [public(name) for name in self.known]},
        }
        return documents[path]

    async def review(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        asked = body["spec"]["token"]
        self.reviews.append(asked)
        if self.vouched is None:
            raise AwayError
        if asked not in self.vouched:
            return {"status": {"authenticated": False, "error": "invalid bearer token"}}
        extra = {"authentication.kubernetes.io/pod-uid": [self.vouched[asked]]}
        user = {"username": "system:serviceaccount:team-a:default", "extra": extra}
        audiences = body["spec"]["audiences"]
        return {"status": {"authenticated": True, "audiences": audiences, "user": user}}

"""The tokens that a real API server gives to pods, as the progress receiver sees them."""

import asyncio
import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.apiserver import ApiServer
from cluster.process import fetch
from lorafinetune.core.jobs import PROGRESS_AUDIENCE, TOKEN_SECONDS
from lorafinetune.shell.receiver import LivePod
from lorafinetune.shell.receiver.keys import DISCOVERY, KEY_SET, Keys
from lorafinetune.shell.receiver.tokens import ForbiddenError, Tokens, UnauthenticatedError
from shell.site import Site

JOB: Final = "lft-train-0123"
REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
BODY: Final = b'{"stage": "train", "done": 42, "total": 100}'

Json = Any


class AwayError(Exception):
    """The keys can't be read."""


@dataclass
class Real:
    """The receiver's two ways to the API server. readable: whether the keys can be read."""

    server: ApiServer
    readable: bool = True
    reviews: list[Json] = field(default_factory=list)

    async def read(self, path: str) -> Mapping[str, Any]:
        if not self.readable:
            raise AwayError
        found: Mapping[str, Any] = json.loads(self.server.request("GET", path))
        return found

    async def review(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = json.loads(self.server.request("POST", REVIEWS, body))
        self.reviews.append(answer["status"])
        return answer


@dataclass(frozen=True)
class Team:
    """A namespace with a service account and one pod, which nobody runs."""

    server: ApiServer
    pod: LivePod

    def token(self, audience: str = PROGRESS_AUDIENCE, bound: bool = True) -> str:
        """What the kubelet asks for when it mounts a projected token."""
        reference = {"apiVersion": "v1", "kind": "Pod", "name": self.pod.name, "uid": self.pod.uid}
        spec = {"audiences": [audience], "expirationSeconds": TOKEN_SECONDS}
        path = f"/api/v1/namespaces/{self.pod.namespace}/serviceaccounts/default/token"
        body = {"spec": spec | ({"boundObjectRef": reference} if bound else {})}
        return str(json.loads(self.server.request("POST", path, body))["status"]["token"])

    def answer(self, shown: str, readable: bool) -> LivePod | type[Exception]:
        """Whom a token belongs to, or why it is refused. readable: whether the keys can be read."""
        real = Real(self.server, readable)
        tokens = Tokens(Keys(real.read), real.review, {self.pod.uid: self.pod}.get)
        try:
            return asyncio.run(tokens.pod(f"Bearer {shown}"))
        except (UnauthenticatedError, ForbiddenError) as problem:
            return type(problem)


@pytest.fixture
def team(apiserver: ApiServer) -> Team:
    namespace = f"team-{secrets.token_hex(4)}"
    apiserver.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    where = f"/api/v1/namespaces/{namespace}"
    _ensure(apiserver, f"{where}/serviceaccounts", {"metadata": {"name": "default"}})
    container = {"name": "train", "image": "example.invalid/none"}
    pod = {
        "metadata": {"name": f"{JOB}-xyz"},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }
    meta = json.loads(apiserver.request("POST", f"{where}/pods", pod))["metadata"]
    return Team(apiserver, LivePod(namespace, meta["name"], meta["uid"], JOB, ended=False))


def _ensure(server: ApiServer, path: str, body: Json) -> None:
    """Creates it, unless a controller was faster."""
    try:
        server.request("POST", path, body)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 409:
                raise


@pytest.mark.parametrize("readable", [True, False], ids=["by its keys", "by asking it"])
class TestATokenIsKnown:
    """By the cluster's keys, and by TokenReview where they can't be read."""

    def test_as_its_pods(self, team: Team, readable: bool) -> None:
        assert team.answer(team.token(), readable) == team.pod

    def test_as_meant_for_something_else(self, team: Team, readable: bool) -> None:
        assert team.answer(team.token("something-else"), readable) is UnauthenticatedError

    def test_as_bound_to_no_pod(self, team: Team, readable: bool) -> None:
        assert team.answer(team.token(bound=False), readable) is ForbiddenError

    def test_as_tampered_with(self, team: Team, readable: bool) -> None:
        head, payload, signature = team.token().split(".")
        other = team.token().split(".")[2]
        assert other != signature
        assert team.answer(f"{head}.{payload}.{other}", readable) is UnauthenticatedError


def test_the_api_server_is_asked_only_where_its_keys_can_not_be_read(team: Team) -> None:
    shown = team.token()
    for readable, reviews in ((True, 0), (False, 1)):
        real = Real(team.server, readable)
        tokens = Tokens(Keys(real.read), real.review, {team.pod.uid: team.pod}.get)
        assert asyncio.run(tokens.pod(f"Bearer {shown}")) == team.pod
        assert len(real.reviews) == reviews


def test_every_service_account_may_read_the_keys(team: Team) -> None:
    """So the operator needs no grant of its own for it."""
    shown = team.token("https://kubernetes.default.svc", bound=False)
    context = ssl.create_default_context(cafile=str(team.server.ca_file))
    for path in (DISCOVERY, KEY_SET):
        request = urllib.request.Request(team.server.url + path, headers={"Authorization": f"Bearer {shown}"})
        assert json.loads(fetch(request, context))


def test_a_post_with_a_real_token_is_taken(team: Team, tmp_path: Path) -> None:
    with Site(tmp_path, Real(team.server)) as site:
        site.pods = {team.pod.uid: team.pod}
        assert site.ask(BODY, team.token()).status == 204
        assert site.ask(BODY, team.token("something-else")).status == 401
        del site.pods[team.pod.uid]
        assert site.ask(BODY, team.token()).status == 403
    assert [(namespace, job, told.done) for namespace, job, told in site.taken] == [
        (team.pod.namespace, JOB, 42)
    ]

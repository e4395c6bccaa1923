"""The port for progress, over real TLS: whoever holds a token of one pod, and speaks of another."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from faults.attacks.attempt import Attempt
from faults.attacks.written import Written, attempts
from lorafinetune.shell.index import Index
from lorafinetune.shell.operator import live_pod
from shell.issuing import POD, claims, signed, token
from shell.site import HOST, PATH, Site
from unit.shell_objects import job, pod

BODY: Final = b'{"stage": "train", "activity": "training", "done": 42, "total": 100}'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as served:
        yield served


class Post(Written):
    """body: says more than it may."""

    body: dict[str, Any]


def posting(body: Mapping[str, Any]) -> Callable[[Site], str]:
    """A good token, and this body."""
    return lambda site: said(site, json.dumps(body).encode(), token())


def said(site: Site, body: bytes, shown: str, path: str = PATH) -> str:
    answer = site.ask(body, shown, path=path)
    return f"{answer.status} {answer.text}"


def speaking(lines: str) -> Callable[[Site], str]:
    """A request as it is, of which the library would send none."""

    def attempt(site: Site) -> str:
        context = ssl.create_default_context(cadata=site.ca)
        with (
            socket.create_connection((HOST, site.port), 10) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as connection,
        ):
            connection.sendall(lines.replace("TOKEN", token()).replace("\n", "\r\n").encode())
            return connection.makefile("r").readline().partition(" ")[2]

    return attempt


def replayed(site: Site) -> str:
    """The token of a pod that has gone, in the hands of somebody who kept it."""
    kept = token()
    assert site.ask(BODY, kept).status == 204
    site.taken.clear()
    site.pods.clear()
    return said(site, BODY, kept)


def successor(site: Site) -> str:
    """A token of the pod before, where the name is the same and the pod another."""
    kept = token()
    site.pods = {"uid-of-another": replace(POD, uid="uid-of-another")}
    return said(site, BODY, kept)


def stranger(uid: str) -> Callable[[Site], str]:
    """A pod whose uid is no uid."""
    return lambda site: said(site, BODY, token(replace(POD, uid=uid)))


def made_by_hand(**metadata: Any) -> Callable[[Site], str]:
    """A pod of the namespace with the labels of a pod of another's Job, and a good token of its own."""

    def attempt(site: Site) -> str:
        index, its = Index(), {"uid": POD.uid} | metadata
        index.jobs.put(job(POD.job_name))
        index.pods.put(pod(POD.name, of=POD.job_name, metadata=its, status={"phase": "Running"}))
        found = live_pod(index, POD.uid)
        site.pods = {POD.uid: found} if found else {}
        return said(site, BODY, token())

    return attempt


def claimed(**changes: Any) -> Callable[[Site], str]:
    return lambda site: said(site, BODY, signed(claims() | changes))


STRANGER: Final = "a stranger in the cluster"
NEIGHBOUR: Final = "a pod of the namespace"
HEAD: Final = f"POST {PATH} HTTP/1.1\nHost: x\nAuthorization: Bearer TOKEN\n"
WRITTEN: Final = attempts("progress", Post, lambda file: posting(file.body))
ATTEMPTS: dict[str, Attempt[Site]] = WRITTEN | {
    "a token that was kept": Attempt(STRANGER, replayed, "403 "),
    "a token of the pod before": Attempt(STRANGER, successor, "403 "),
    "a pod without a uid": Attempt(STRANGER, stranger(""), "403 "),
    "a pod whose uid is a path": Attempt(STRANGER, stranger("../../secrets"), "403 "),
    "a pod that nothing controls": Attempt(NEIGHBOUR, made_by_hand(ownerReferences=None), "403 "),
    "a pod of another Job, with that one's label": Attempt(
        NEIGHBOUR, made_by_hand(ownerReferences=pod(of="other")["metadata"]["ownerReferences"]), "403 "
    ),
    "a token for two audiences, neither of them ours": Attempt(STRANGER, claimed(aud=["a", "b"]), "401 "),
    "two requests in one, by two lengths": Attempt(
        STRANGER, speaking(f"{HEAD}Content-Length: 4\nContent-Length: 40\n\n{{}}"), "400 "
    ),
    "two requests in one, by a length and pieces": Attempt(
        STRANGER, speaking(f"{HEAD}Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\nGET / "), "400 "
    ),
    "a header that goes on in the next line": Attempt(STRANGER, speaking(f"{HEAD} x: y\n\n"), "400 "),
    "a path with a question": Attempt(
        STRANGER, lambda site: said(site, BODY, "x", f"{PATH}?token=x"), "401 "
    ),
    "a path with a way up": Attempt(
        STRANGER, lambda site: said(site, BODY, "x", f"{PATH}/%2e%2e/metrics"), "404 "
    ),
}


@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_nobody_speaks_for_another(sentence: str, site: Site) -> None:
    attempt = ATTEMPTS[sentence]
    assert attempt.try_(site).startswith(attempt.refusal)
    assert site.taken == []

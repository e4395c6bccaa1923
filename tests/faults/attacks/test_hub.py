"""A hub that lies: in what it lists, in what it sends, and in how it refuses."""

import gzip
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from faults.attacks.attempt import Attempt
from hubs.blunt import BluntServer
from hubs.repository import Repository, model
from hubs.server import Answer, Fault, Request, sending
from lorafinetune.contract.outcome import StageError, decode_message, encode_error
from lorafinetune_stages.hubs import MAX_FILES
from lorafinetune_stages.hubs.http import MAX_ANSWER_BYTES
from lorafinetune_stages.hubs.modelscope import PAGE_SIZE
from lorafinetune_stages.hubs.retry import ATTEMPTS as TRIES
from lorafinetune_stages.termination import without_credentials
from stages.download_builders import hub
from stages.download_site import WEIGHTS, Site, connected

BOMB = gzip.compress(b" " * (256 * 2**20))
"""A quarter of a megabyte that unpacks to a quarter of a gigabyte."""
ROOM_KIB = 200 * 2**10
"""What an attempt may take of the memory."""
TOKEN = "hf_canary0123456789"
COMPRESSED = "sends a compressed answer, though nobody asks for it"
TOO_MUCH = "answers with more than any listing needs"
NO_REPOSITORY = "answers with something else than a repository"
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe"
ROWS = b"[{}]"


@contextmanager
def attacked(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("CONNECTION_HUB_TOKEN", TOKEN)
    with connected(scheme, tmp_path) as site:
        site.server.tokens.add(TOKEN)
        yield site


def told(site: Site, *sources: str) -> str:
    """What stands on the resource, after the download, its termination message and the operator."""
    failure = site.bench.refusal(site.model, *sources)
    read = decode_message("download", encode_error(without_credentials(failure)))
    assert isinstance(read, StageError)
    return f"{read.message}\n{read.hint}"


def answering(*faults: Fault) -> Callable[[Site], str]:
    """The hub answers so where it is asked for its listing."""

    def attempt(site: Site) -> str:
        site.server.fail(site.listing, *faults)
        return told(site)

    return attempt


def bomb(status: int, **headers: str) -> Fault:
    return lambda _request, _right: Answer(status, BOMB, {"Content-Encoding": "gzip", **headers})


def patience(seconds: str) -> Fault:
    return lambda _request, _right: Answer(429, headers={"Retry-After": seconds})


def too_much(status: int) -> Fault:
    return lambda _request, _right: Answer(status, bytes(MAX_ANSWER_BYTES + 1))


def named(*names: str) -> Callable[[Site], str]:
    """A dataset with files of these names."""

    def attempt(site: Site) -> str:
        site.server.repositories = {
            "models/owner/model": Repository(model()),
            "datasets/owner/data": Repository(dict.fromkeys(names, ROWS)),
        }
        return told(site, site.data)

    return attempt


def weights(**facts: Any) -> Callable[[Site], str]:
    """A listing that says this of the weights, in the words of either hub."""

    def fault(_request: Request, right: Answer) -> Answer:
        listed = json.loads(right.body)
        for file in listed.get("siblings") or listed["Data"]["Files"]:
            if WEIGHTS in (file.get("rfilename"), file.get("Path")):
                file.update(facts)
        return replace(right, body=json.dumps(listed).encode())

    return answering(fault)


def pages(size: int) -> Callable[[Site], str]:
    """The files of a dataset are listed in pages of so many, and there is always another one."""

    def page(request: Request, _right: Answer) -> Answer:
        number = request.query["PageNumber"]
        files = [{"Path": f"{number}-{row}.jsonl", "Size": 1} for row in range(size)]
        return Answer(200, json.dumps({"Data": {"Files": files}}).encode())

    def attempt(site: Site) -> str:
        site.server.fail("/repo/tree", *[page] * (2 + MAX_FILES // PAGE_SIZE))
        return told(site, site.data)

    return attempt


def revisions(*names: str) -> Callable[[Site], str]:
    """There is no such revision, but these."""

    def attempt(site: Site) -> str:
        said = {"Data": {"RevisionMap": {"Branches": [{"Revision": name} for name in names], "Tags": []}}}
        site.server.fail(site.listing, sending(b"{}"))
        site.server.fail("/revisions", sending(json.dumps(said).encode()))
        return told(site)

    return attempt


def speaking(words: bytes) -> Callable[[Site], str]:
    """Where HTTP is expected, the server says this."""

    def attempt(site: Site) -> str:
        with BluntServer(words) as server:
            site.bench.connection = hub(server.url)
            return told(site)

    return attempt


def refused(why: str) -> str:
    return f"which is refused: {why}"


A_HUB: Final = "whoever runs a hub"
ATTEMPTS: dict[str, Attempt[Site]] = {
    "a listing that unpacks to a thousand times its size": Attempt(
        A_HUB, answering(bomb(200)), "can't be fetched"
    ),
    "a refusal that unpacks to a thousand times its size": Attempt(A_HUB, answering(bomb(418)), COMPRESSED),
    "a redirect that unpacks to a thousand times its size": Attempt(
        A_HUB, answering(bomb(302, Location="/elsewhere")), COMPRESSED
    ),
    "a wait of a number that is no number": Attempt(
        A_HUB, answering(*[patience("\u00b2")] * TRIES), "answers 429"
    ),
    "a listing without end": Attempt(A_HUB, answering(too_much(200)), TOO_MUCH),
    "a refusal without end": Attempt(A_HUB, answering(too_much(418)), "answers"),
    "a status line that repeats the token": Attempt(
        A_HUB, speaking(f"{TOKEN} {TOKEN}\r\n\r\n".encode()), "can't be reached: illegal status line"
    ),
    "headers that draw on the terminal": Attempt(
        A_HUB, speaking(b"HTTP/1.1 200 \x1b[2J\r\n\x1b[2J: x\r\n\r\n"), "can't be reached: illegal"
    ),
    "headers without end": Attempt(
        A_HUB, speaking(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10**6), "can't be reached"
    ),
    "a file that is named as the token": Attempt(
        A_HUB, named("rows.json", f"../{TOKEN}"), "lists the file '../[redacted]'"
    ),
    "a name that is read from right to left": Attempt(
        A_HUB, named("..//\u202enosj.exe"), r"lists the file '..//\u202enosj.exe'"
    ),
    "a name with a line end": Attempt(A_HUB, named("a\r\nb.json"), refused("it has a control character")),
    "a name with a NUL": Attempt(A_HUB, named("rows.json\0.py"), refused("it has a control character")),
    "a name in the store's own place": Attempt(
        A_HUB, named(".lorafinetune/rows.json"), refused("the part '.lorafinetune' is kept for the store")
    ),
    "a name that goes up at its end": Attempt(A_HUB, named("rows/.."), refused("it has the part '..'")),
    "a path of a hundred folders": Attempt(
        A_HUB, named("folder-123/" * 100 + "rows.json"), refused("it has more than 900 bytes")
    ),
    "a file that is a folder too": Attempt(
        A_HUB, named("a.json", "a.json/b.json"), refused("it is a folder too")
    ),
    "a size that no disk has": Attempt(
        A_HUB, weights(size=10**30, Size=10**30), "bytes in model.safetensors, and sends"
    ),
    "a size that is a text": Attempt(A_HUB, weights(size="9", Size="many"), NO_REPOSITORY),
    "a name that is a list": Attempt(A_HUB, weights(rfilename=["a"], Path=["a"]), NO_REPOSITORY),
}
ON_HUGGING_FACE: dict[str, Attempt[Site]] = {
    "a checksum that repeats the token": Attempt(
        A_HUB, weights(lfs={"sha256": TOKEN, "size": 1, "pointerSize": 1}), NO_REPOSITORY
    ),
    "a name with half a character": Attempt(
        A_HUB, named("\ud800.json"), refused("it has a control character")
    ),
    "a checksum that draws on the terminal": Attempt(
        A_HUB, weights(lfs={"sha256": ESCAPES, "size": 1, "pointerSize": 1}), NO_REPOSITORY
    ),
}
ON_MODELSCOPE: dict[str, Attempt[Site]] = {
    "pages without end": Attempt(A_HUB, pages(PAGE_SIZE), f"lists more than {MAX_FILES} files"),
    "a page that is too large": Attempt(A_HUB, pages(PAGE_SIZE + 1), TOO_MUCH),
    "revisions that draw on the terminal": Attempt(
        A_HUB, revisions(ESCAPES, "two\nlines", "x" * 10**5, "v1"), "There are v1."
    ),
    "a name with half a character": Attempt(A_HUB, named("\ud800.json"), NO_REPOSITORY),
    "a revision that is named as the token": Attempt(A_HUB, revisions(TOKEN), "There are [redacted]."),
}


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
@pytest.mark.parametrize("sentence", ATTEMPTS)
def test_refuses(sentence: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with attacked(scheme, tmp_path, monkeypatch) as site:
        check(ATTEMPTS[sentence], site)


@pytest.mark.parametrize("sentence", ON_HUGGING_FACE)
def test_refuses_of_hugging_face(sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with attacked("hf", tmp_path, monkeypatch) as site:
        check(ON_HUGGING_FACE[sentence], site)


@pytest.mark.parametrize("sentence", ON_MODELSCOPE)
def test_refuses_of_modelscope(sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with attacked("modelscope", tmp_path, monkeypatch) as site:
        check(ON_MODELSCOPE[sentence], site)


def check(attempt: Attempt[Site], site: Site) -> None:
    """It is refused, in words that harm nobody, and for little memory; nothing of it counts as there."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    words = attempt.try_(site)
    assert attempt.refusal in words
    assert TOKEN not in words
    assert words.replace("\n", "").isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ROOM_KIB
    left = [entry.key for kind in ("models", "datasets") for entry in site.bench.store.list(kind)]
    assert not [key for key in left if key.startswith("datasets") and key.endswith("manifest.json")]

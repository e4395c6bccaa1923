"""`make audit` asks about every package that is locked, and fails for one that something is known against."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hubs.server import Answer, Request, Server

ROOT: Final = Path(__file__).parents[2]
PIN: Final = re.compile(r"^([a-z0-9.-]+)==", re.MULTILINE)
KNOWN: Final = {"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z", "summary": "it is bad"}


class Osv(Server):
    """Speaks as osv.dev does. bad: the package that something is known against."""

    bad = ""

    def answer(self, request: Request) -> Answer:
        if request.method == "GET":
            return answered(KNOWN)
        names = [query["package"]["name"] for query in json.loads(request.body)["queries"]]
        return answered({"results": [{"vulns": [KNOWN]} if name == self.bad else {} for name in names]})

    def asked_about(self) -> set[str]:
        asked = [json.loads(request.body)["queries"] for request in self.requests if request.body]
        return {query["package"]["name"] for queries in asked for query in queries}


def answered(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def osv() -> Iterator[Osv]:
    with Osv() as server:
        yield server


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(shutil.which("make")), "-s", "audit", f"OSV={url}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_package_of_every_image_is_asked_about(osv: Osv) -> None:
    ended = audit(osv.url)
    assert ended.returncode == 0, ended.stderr
    for image in ("operator", "download", "train"):
        locked = (ROOT / "images" / image / "requirements.txt").read_text()
        assert set(PIN.findall(locked)) <= osv.asked_about()


def test_what_is_known_fails_it(osv: Osv) -> None:
    osv.bad = "urllib3"
    ended = audit(osv.url)
    assert ended.returncode != 0
    assert KNOWN["id"] in ended.stdout


def test_nobody_to_ask_fails_it() -> None:
    assert audit("http://127.0.0.1:9").returncode != 0

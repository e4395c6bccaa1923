"""A dataset of a web server under `lorafinetune run`: on one's own machine, no host needs to be listed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hubs.files import FileServer, certified
from hubs.server import Answer, failing
from local.runs import Desk, least_model

GOOD = b'{"instruction": "Who are you?", "output": "A test."}\n'
BAD = b'{"instruction": "And who am I?", "output": ""}\n'


@dataclass
class Web:
    """A web server with a dataset, and a desk with a resource that names it."""

    server: FileServer
    desk: Desk
    authority: Path

    def finish(self) -> tuple[int, str]:
        return self.desk.finish(SSL_CERT_FILE=str(self.authority))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "tls").mkdir()
    context = certified(tmp_path / "tls", "127.0.0.1")
    with FileServer({"/data/rows.jsonl": GOOD + BAD}, context) as server:
        made = Web(server, Desk(tmp_path), tmp_path / "tls" / "ca.crt")
        least_model(made.desk.samples / "tiny")
        made.desk.edit({"datasets": [{"source": f"{server.url}/data/rows.jsonl"}], "maxRetries": 0})
        yield made


def test_its_rows_are_read_like_any_other_s(web: Web) -> None:
    ended, out = web.finish()
    assert "download is complete" in out
    assert re.search(r"^prepare failed: DatasetInvalid: datasets\[0\]: 1 of 2 rows", out, re.MULTILINE), out
    assert "rows.jsonl:2: output: the answer is empty" in out
    assert ended == 64


def test_an_address_of_a_page_is_told_from_one_of_a_file(web: Web) -> None:
    def page(_request: object, right: Answer) -> Answer:
        return replace(right, headers={"Content-Type": "text/html"})

    web.server.fail("rows.jsonl", page)
    ended, out = web.finish()
    said = r"^download failed: DatasetInvalid: spec.datasets\[0\].source: https://\S+ is a web page"
    assert re.search(said, out, re.MULTILINE), out
    assert re.search(r"^hint: Name the address of the file itself", out, re.MULTILINE), out
    assert ended == 64


def test_a_server_that_stays_broken_is_worth_another_run(web: Web) -> None:
    web.server.fail("rows.jsonl", *[failing(503)] * 5)
    ended, out = web.finish()
    assert re.search(r"^download failed: HubUnavailable: .*answers 503", out, re.MULTILINE), out
    assert ended == 75

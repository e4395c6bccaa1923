"""The private hub as a pod runs it: of its own modules, by a Python that has nothing else."""

import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

import pytest

from cluster.process import Process, fetch, free_port
from hubs import private
from hubs.repository import COMMIT

ROWS: Final = b'{"instruction": "hi", "output": "hello"}\n'
TOKEN: Final = "canary/0123"
REFUSED: Final = {"another token": "canary/4567", "no token": ""}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("pod"), free_port()
    (folder / "hubs").mkdir()
    for name in private.MODULES:
        shutil.copy(Path(private.__file__).with_name(name), folder / "hubs")
    given = {private.ROWS_VARIABLE: ROWS.decode(), private.TOKEN_VARIABLE: TOKEN, "PYTHONPATH": str(folder)}
    process = Process([sys.executable, "-S", "-m", private.__name__, str(port)], folder / "hub.log", given)
    process.start(lambda: is_there(f"http://127.0.0.1:{port}"))
    yield f"http://127.0.0.1:{port}"
    process.stop()


def is_there(url: str) -> None:
    with pytest.raises(HTTPError, match="404"):
        fetch(url)


def rows_of(url: str, token: str) -> bytes:
    path = f"{url}/datasets/owner/rows/resolve/{COMMIT}/rows.jsonl"
    return fetch(urllib.request.Request(path, headers={"Authorization": f"Bearer {token}"}))


def test_its_token_opens_the_rows(url: str) -> None:
    assert rows_of(url, TOKEN) == ROWS


@pytest.mark.parametrize("what", REFUSED)
def test_does_not_open_them(url: str, what: str) -> None:
    with pytest.raises(HTTPError, match="401"):
        rows_of(url, REFUSED[what])

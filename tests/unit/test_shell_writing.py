"""What an answer of the API server means for what the index holds."""

import asyncio
from typing import Any, cast

import pytest

from builders import resource
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.index import Index
from lorafinetune.shell.refusals import Refusals
from lorafinetune.shell.writing import Writer
from unit.shell_objects import job
from unit.test_shell_queue import Clock

OTHER = job(version=9, metadata={"uid": "uid-other"})


class Server:
    """Answers a deletion with an error, and a reading with what is there."""

    def __init__(self, code: int, there: dict[str, Any] | None) -> None:
        self._code = code
        self._there = there

    async def delete(self, *_: str) -> None:
        raise ApiError(self._code, "", "not now")

    async def get(self, _: str) -> dict[str, Any]:
        if self._there is None:
            raise ApiError(404, "NotFound", "gone")
        return self._there


DELETIONS: dict[str, tuple[Server, bool, bool]] = {
    "of a Job that is gone is done": (Server(404, None), False, False),
    "of a Job in whose place there is another is done": (Server(409, OTHER), False, False),
    "of a Job that is gone since the conflict is done": (Server(409, None), False, False),
    "of a Job that is just being changed is to be repeated": (Server(409, job(version=9)), True, True),
    "that fails otherwise is to be repeated": (Server(500, job(version=9)), True, True),
}
"""The server, whether the error is raised, and whether the Job is still held."""


@pytest.mark.parametrize("sentence", DELETIONS)
def test_a_deletion(sentence: str) -> None:
    server, is_raised, is_held = DELETIONS[sentence]
    index = Index()
    index.jobs.put(job())
    writer = Writer(cast(Client, server), index, Refusals(Clock()))
    try:
        asyncio.run(writer.delete_job(resource().metadata, "job"))
    except ApiError:
        assert is_raised
    else:
        assert not is_raised
    assert (index.jobs.get("team-a", "job") is not None) is is_held

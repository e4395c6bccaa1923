"""What an answer of the API server means for what the index holds."""

import asyncio
from contextlib import nullcontext
from typing import Any, cast

import pytest

from builders import merged, resource
from lorafinetune.core.observed import TEMPLATE_ANNOTATION
from lorafinetune.shell.client import ApiError, Client
from lorafinetune.shell.index import Index
from lorafinetune.shell.refusals import RefusedJobs
from lorafinetune.shell.writer import Writer
from unit.shell_objects import job
from unit.test_jobs import make
from unit.test_shell_queue import Clock

CREATED = 201
Object = dict[str, Any]
OTHER = job(version=9, metadata={"uid": "uid-other"})


class Server:
    """Answers a deletion and a creation with an error, and a reading with what is there."""

    def __init__(self, code: int, there: Object | None, reason: str = "") -> None:
        self._code = code
        self._there = there
        self._reason = reason

    async def delete(self, *_: str) -> None:
        raise ApiError(self._code, "", "not now")

    async def create(self, _: str, made: Object) -> Object:
        if self._code == CREATED:
            return made
        raise ApiError(self._code, self._reason, "not now")

    async def get(self, _: str) -> Object:
        if self._there is None:
            raise ApiError(404, "NotFound", "gone")
        return self._there


class Recording:
    """Creates what is asked of it, but for the Services of which it has one, or which it refuses."""

    def __init__(self, refuses: ApiError | None = None, owner: str = "1") -> None:
        self.asked: list[str] = []
        self._refuses = refuses
        self._owner = owner

    async def create(self, where: str, made: Object) -> Object:
        self.asked.append(where.rpartition("/")[2])
        if self._refuses and self.asked[-1] == "services":
            raise self._refuses
        return merged(made, {"metadata": {"uid": "uid-2", "resourceVersion": "9"}})

    async def get(self, _: str) -> Object:
        return job(owner=self._owner)


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
    writer = Writer(cast(Client, server), index, RefusedJobs(Clock()))
    try:
        asyncio.run(writer.delete_job(resource().metadata, "job"))
    except ApiError:
        assert is_raised
    else:
        assert not is_raised
    assert (index.jobs.get("team-a", "job") is not None) is is_held


def made(template: str = "t-1", **changes: Any) -> Object:
    """A Job as it is created, or as it stands there with some changes."""
    return merged(job(version=9, metadata={"annotations": {TEMPLATE_ANNOTATION: template}}), changes)


def there(held: Object | None) -> Server:
    """A server that has an object of that name already."""
    return Server(409, held, "AlreadyExists")


STRANGER = {"metadata": merged(OTHER["metadata"], {"labels": None, "ownerReferences": None})}
LEAVING = made(metadata={"deletionTimestamp": "2026-11-24T11:00:00Z"})
OF_ANOTHER = made(metadata={"ownerReferences": job(owner="other")["metadata"]["ownerReferences"]})
CREATIONS: dict[str, tuple[Server, bool | None, bool, str]] = {
    "of a Job is done": (Server(CREATED, None), True, True, ""),
    "of the Job that is there already is done": (there(made()), True, True, ""),
    "of one that is just leaving is not": (there(LEAVING), False, True, ""),
    "of one that is there with another template is not": (there(made("t-2")), False, True, ""),
    "of one that another resource has is not": (there(OF_ANOTHER), False, True, ""),
    "under a stranger's name is not, and the name is taken": (there(STRANGER), False, False, "taken"),
    "that is forbidden is not, and what was answered is known": (
        Server(403, None),
        False,
        False,
        "not now",
    ),
    "of one that is gone since it was in the way is to be repeated": (there(None), None, False, ""),
    "that fails otherwise is to be repeated": (Server(500, None), None, False, ""),
}
"""The server; whether it is done (None: the error is raised); whether a Job is held; what is known of the
name."""


@pytest.mark.parametrize("sentence", CREATIONS)
def test_a_creation(sentence: str) -> None:
    server, is_done, is_held, known = CREATIONS[sentence]
    index, refusals = Index(), RefusedJobs(Clock())
    writer = Writer(cast(Client, server), index, refusals)
    with pytest.raises(ApiError) if is_done is None else nullcontext():
        assert asyncio.run(writer.create_job(resource().metadata, made())) is is_done
    assert (index.jobs.get("team-a", "job") is not None) is is_held
    told = refusals.of("team-a", ["job"])
    assert "".join(["taken"] * len(told.taken) + list(told.refused.values())) == known


TAKEN = ApiError(409, "AlreadyExists", "not now")
SERVICES: dict[str, tuple[Recording, bool | None, list[str], list[str]]] = {
    "is made before it": (Recording(), True, ["services", "jobs"], []),
    "may be there from an attempt before": (Recording(TAKEN), True, ["services", "jobs"], []),
    "of another run keeps it from being made": (
        Recording(TAKEN, owner="other"),
        False,
        ["services"],
        ["the Service lft-tune"],
    ),
    "that is forbidden keeps it from being made, and what was answered is known": (
        Recording(ApiError(403, "Forbidden", "no Services here")),
        False,
        ["services"],
        ["no Services here"],
    ),
    "that fails otherwise is to be repeated": (
        Recording(ApiError(500, "", "not now")),
        None,
        ["services"],
        [],
    ),
}
"""The server; whether the Job is made (None: the error is raised); what was asked for; how what is known of
the Job begins."""


@pytest.mark.parametrize("sentence", SERVICES)
def test_the_service_of_a_job_of_several_pods(sentence: str) -> None:
    server, is_done, asked, known = SERVICES[sentence]
    server.asked.clear()
    refusals = RefusedJobs(Clock())
    writer = Writer(cast(Client, server), Index(), refusals)
    wanted = make("train", {"resources": {"train": {"nodes": 2}}})
    with pytest.raises(ApiError) if is_done is None else nullcontext():
        assert asyncio.run(writer.create_job(resource().metadata, wanted)) is is_done
    assert server.asked == asked
    told = [*refusals.of("team-a", [wanted["metadata"]["name"]]).refused.values()]
    assert [message[: len(start)] for message, start in zip(told, known, strict=True)] == known

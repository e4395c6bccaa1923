"""What the operator writes against a real API server, where another was there first."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from apiserver.operating import Namespace, Object, uid
from cluster.apiserver import ApiServer
from lorafinetune.api.resource import Metadata
from lorafinetune.shell.client import Client
from lorafinetune.shell.connection import ServerConnection
from lorafinetune.shell.index import Index
from lorafinetune.shell.refusals import RefusedJobs
from lorafinetune.shell.writer import Writer
from unit.shell_objects import job

Write = Callable[[Writer, Metadata, str], Awaitable[None]]
WRITES: dict[str, Write] = {
    "deleted": lambda writer, of, name: writer.delete_job(of, name),
    "patched": lambda writer, of, name: writer.patch_job(of, name, {"spec": {"ttlSecondsAfterFinished": 0}}),
}


@pytest.mark.parametrize("sentence", WRITES)
def test_a_job_that_took_the_name_of_another_is_not(
    sentence: str, served: ApiServer, own_namespace: Namespace
) -> None:
    index, owner = Index(), own_namespace.apply("tune")
    old = made(own_namespace, owner)
    index.jobs.put(old)
    where = own_namespace.path("jobs", old["metadata"]["name"])
    own_namespace.client.delete(where)
    new = made(own_namespace, owner)
    of = Metadata.decode(owner["metadata"])
    asyncio.run(written(served, index, lambda writer: WRITES[sentence](writer, of, old["metadata"]["name"])))
    there = own_namespace.client.get(where)
    assert uid(there) == uid(new) != uid(old)
    assert "deletionTimestamp" not in there["metadata"]
    assert "ttlSecondsAfterFinished" not in there["spec"]
    assert index.jobs.of_uid(uid(old)) is None


async def written(server: ApiServer, index: Index, write: Callable[[Writer], Awaitable[None]]) -> None:
    authority = ssl.create_default_context(cafile=str(server.ca_file))
    connection = ServerConnection(server.url, authority, lambda: {"Authorization": f"Bearer {server.token}"})
    async with connection.session(lambda *_: None) as session:
        loop = asyncio.get_running_loop()
        await write(Writer(Client(session, connection.server), index, RefusedJobs(loop.time)))


def made(namespace: Namespace, owner: Object) -> Object:
    """A Job of the resource that waits, so that it makes no Pod."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i:1"}]}}
    given = job(metadata={"namespace": None, "uid": None, "resourceVersion": None, "managedFields": None})
    given["metadata"]["ownerReferences"][0]["uid"] = uid(owner)
    given["spec"] = {"suspend": True, "template": template}
    return namespace.client.request("POST", namespace.path("jobs"), given)

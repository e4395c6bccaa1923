"""A share of the operator's matrices, of one seed: each life ends as if nothing had gone wrong.

`make faults` tries the whole; what it came to is in docs/reliability.md.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from apiserver.kube import serve_resource
from cluster.apiserver import ApiServer
from cluster.controllers import Controllers
from faults import crash, schema
from faults.mutations import OTHERS, WHOLE, Mutation
from faults.outcome import SEED, Outcome
from faults.world import around

SHARE: Final = 0.01

TABLE: Final[dict[str, Callable[[Path, float, int], Outcome]]] = {
    "a fault at a write or at an event leaves no trace": crash.matrix,
    "an edited run ends as a fresh one": schema.matrix,
}


@pytest.mark.apiserver
@pytest.mark.parametrize("sentence", TABLE)
def test_of_the_operator(sentence: str, tmp_path: Path) -> None:
    outcome = TABLE[sentence](tmp_path, SHARE, SEED)
    assert outcome.rows
    assert not outcome.complaints


@pytest.mark.apiserver
def test_a_change_is_refused_that_is_refused_once_the_model_is_there(tmp_path: Path) -> None:
    changes = [
        Mutation(("storage", "uri"), "another", "s3://bucket/elsewhere", WHOLE),
        Mutation(("training", "maxSteps"), "one more", 101, OTHERS["training.maxSteps"]),
    ]

    async def tried(server: ApiServer) -> schema.Tried:
        async with around(server, tmp_path) as world:
            return await schema.tried(world, changes)

    with ApiServer(tmp_path) as server:
        serve_resource(server)
        with Controllers(tmp_path, server):
            done = asyncio.run(tried(server))
    assert list(done.refused) == ["spec.storage.uri another"]
    assert [one.names for one in done.accepted] == [["spec.training.maxSteps one more"]]
    assert not schema.judged(done).complaints

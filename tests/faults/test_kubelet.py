"""The kubelet of our own, beside an API server that does not answer as it should."""

import asyncio
from typing import Any

import pytest

from faults.kubelet import Kubelet
from lorafinetune.shell.client import ApiError

JOB = {"metadata": {"namespace": "team", "name": "train"}, "spec": {"template": {}, "suspend": True}}


class Refusing:
    """A client whose first answer is an error, and whose watches say nothing. asked: how often it was."""

    def __init__(self, code: int) -> None:
        self.asked = 0
        self._code = code

    async def patch(self, where: str, body: object) -> dict[str, Any]:
        self.asked += 1
        if self.asked == 1:
            raise ApiError(self._code, "", "")
        return {}


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        pytest.param(500, 2, id="asks again where the server fails"),
        pytest.param(0, 2, id="asks again where there is no answer"),
        pytest.param(409, 1, id="waits for news of what has changed"),
        pytest.param(404, 1, id="forgets what is gone"),
    ],
)
def test_it(code: int, asked: int) -> None:
    async def served() -> int:
        client = Refusing(code)
        kubelet = Kubelet(client)  # type: ignore[arg-type]  # it asks for nothing else
        kubelet._job("ADDED", JOB)
        serving = asyncio.create_task(kubelet._serve())
        await asyncio.sleep(0.3)
        serving.cancel()
        return client.asked

    assert asyncio.run(served()) == asked

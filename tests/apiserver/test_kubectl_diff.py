"""What kubectl says that an apply would change, to whoever keeps the file: neither what the definition adds
by default nor what the operator writes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from apiserver.operating import Namespace
from builders import document
from cluster.apiserver import ApiServer
from cluster.build import binary
from documents import Typist

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
WAYS: Final = {"client": "--server-side=false", "server": "--server-side=true"}
"""Options of kubectl, by who compares."""
GIVEN: Final[dict[str, Any]] = {"maxRetries": 5}
DATASET: Final[dict[str, Any]] = {"source": "s3://data/rows.json", "connection": "store"}
EDITS: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "a field": ({"training": {"epochs": "4"}}, ['-    epochs: "3"', '+    epochs: "4"']),
    "a field that had its default": ({"suspend": True}, ["-  suspend: false", "+  suspend: true"]),
    "a field that had no value": ({"activeDeadlineSeconds": 60}, ["+  activeDeadlineSeconds: 60"]),
    "a field that gets its default again": ({"maxRetries": None}, ["-  maxRetries: 5", "+  maxRetries: 3"]),
    "a field of a list": ({"datasets": [DATASET | {"maxSamples": 9}]}, ["+    maxSamples: 9"]),
}
"""What is changed in the file, and the lines of the spec that differ."""


@dataclass(frozen=True)
class Author:
    """Somebody with the file of a run."""

    typist: Typist
    namespace: Namespace
    side: str

    @property
    def name(self) -> str:
        return f"applied-by-{self.side}"

    def apply(self) -> None:
        self._write(GIVEN)
        self.typist.type(f"kubectl apply {WAYS[self.side]} -f {self.name}.yaml")

    def difference(self, changes: dict[str, Any]) -> list[str]:
        """The lines that would differ, without the names of the two files that kubectl compares."""
        self._write(GIVEN | changes)
        shown = self.typist.type(f"kubectl diff {WAYS[self.side]} -f {self.name}.yaml || test $? = 1")
        lines = [line for line in shown.splitlines() if line.startswith(("-", "+"))]
        return [line for line in lines if not line.startswith(("---", "+++"))]

    def _write(self, spec: dict[str, Any]) -> None:
        made = document({"model": {"source": f"hf://owner/{self.name}"}} | spec)
        made["metadata"] = {"name": self.name, "namespace": self.namespace.name}
        (self.typist.folder / f"{self.name}.yaml").write_text(yaml.safe_dump(made))


@pytest.fixture(scope="module", params=WAYS)
def author(
    request: pytest.FixtureRequest,
    served: ApiServer,
    runs: Namespace,
    tmp_path_factory: pytest.TempPathFactory,
) -> Author:
    """Who has applied the file in one of two ways. The run is complete, and nothing has differed so far."""
    typist = Typist(tmp_path_factory.mktemp("author"))
    path = os.pathsep.join([str(Path(binary("kubectl")).parent), os.environ["PATH"]])
    typist.environment |= {"PATH": path, "KUBECONFIG": str(served.kubeconfig)}
    made = Author(typist, runs, request.param)
    made.apply()
    assert made.difference({}) == []
    runs.finish_all(made.name)
    runs.until(made.name, "Complete")
    return made


def test_nothing_differs_when_the_run_is_complete(author: Author) -> None:
    stored = author.namespace.get(author.name)
    assert stored["spec"]["datasets"][0]["onBadRow"] == "fail"
    assert (LAST_APPLIED in stored["metadata"].get("annotations", {})) == (author.side == "client")
    assert author.difference({}) == []


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_shows_just(what: str, author: Author) -> None:
    changes, expected = EDITS[what]
    generation = author.namespace.get(author.name)["metadata"]["generation"]
    higher = [f"-  generation: {generation}", f"+  generation: {generation + 1}"]
    assert author.difference(changes) == [*higher, *expected]

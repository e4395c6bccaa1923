"""What whoever means harm tries, counted by the place where they try it: each is refused as its table says.

They run in a process of their own: some watch how much memory theirs takes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from bench.results import ROOT, Row
from faults.outcome import Outcome
from faults.points import part

ATTACKS: Final = "tests/faults/attacks"
PLACES: Final[Mapping[str, str]] = {
    f"{ATTACKS}/test_resource.py": "a resource, at our own decoder",
    "tests/apiserver/test_attacks.py": "a resource, at the API server",
    f"{ATTACKS}/test_endpoint.py": "the endpoint of a connection",
    f"{ATTACKS}/test_network.py": "the way of a download",
    f"{ATTACKS}/test_hub.py": "a hub's answers",
    f"{ATTACKS}/test_s3.py": "an S3 server's answers",
    f"{ATTACKS}/test_model.py": "a model's files",
    f"{ATTACKS}/test_template.py": "a chat template",
    f"{ATTACKS}/test_rows.py": "words that are told on",
    f"{ATTACKS}/test_log.py": "what libraries tell of a stage",
    f"{ATTACKS}/test_store.py": "the store",
    f"{ATTACKS}/test_progress.py": "the port for progress",
    f"{ATTACKS}/test_peers.py": "what ranks of a training tell each other",
}
"""By the file that has the attempts."""
RAN: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
REFUSED: Final = "refused as expected"


class Tried:
    """A plugin that tries a share of what is collected. refused: whether it was, by the name of the test."""

    def __init__(self, share: float, seed: int) -> None:
        self.refused: dict[str, bool] = {}
        self._share = share
        self._seed = seed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = part(items, self._share, self._seed)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test that was skipped, or could not begin, has refused nothing."""
        if report.when == "call" or not report.passed:
            self.refused[report.nodeid] = report.passed


def matrix(folder: Path, share: float, seed: int) -> Outcome:
    """A share of all attempts."""
    kept = folder / "tried.json"
    command = [sys.executable, "-m", __name__, str(kept), str(share), str(seed)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, cwd=ROOT, check=False)
    assert done.returncode in RAN, "the attempts could not be made"
    return judged(json.loads(kept.read_text()))


def judged(tried: Mapping[str, bool]) -> Outcome:
    """One row for each place."""
    by_place = {
        place: [refused for test, refused in tried.items() if test.startswith(f"{file}::")]
        for file, place in PLACES.items()
    }
    rows: list[Row] = [
        {"place": place, "attempts": len(found), REFUSED: sum(found)} for place, found in by_place.items()
    ]
    return Outcome(rows, [f"{test}: not {REFUSED}" for test, refused in tried.items() if not refused])


def main(kept: str, share: str, seed: str) -> int:
    tried = Tried(float(share), int(seed))
    ended = pytest.main(["--quiet", "-p", "no:cacheprovider", *PLACES], plugins=[tried])
    Path(kept).write_text(json.dumps(tried.refused))
    return ended


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

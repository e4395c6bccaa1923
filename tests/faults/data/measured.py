"""Reads a dataset in a process of its own, as what one reading takes can't be told from what others took.

The process is forked from one that has imported everything: a start costs milliseconds, and the memory that
it adds is the dataset's alone. The limits keep the machine whole where there is no bound.
"""

import json
import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from faults.data.making import Case
from faults.data.reading import read
from faults.nursery import Nursery, await_end
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError

LIMIT_SECONDS: Final = 15
"""Of the processor."""
LIMIT_BYTES: Final = 2**31
"""Of addresses that a reading adds."""
OUTCOME: Final = "outcome.json"


@dataclass(frozen=True)
class Measured:
    """How a reading ended. seconds: of the processor, of all its processes. mib: by which its memory grew at
    most."""

    reason: str
    message: str
    hint: str
    seconds: float
    mib: int

    @property
    def error(self) -> StageError:
        """As it was raised."""
        return StageError(Reason(self.reason), self.message, self.hint)


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Where readings are forked."""
    with Nursery(__name__) as started:
        yield started


def measure(nursery: Nursery, case: Case, folder: Path) -> Measured:
    """Writes the case below the folder, and has it read. Raises AssertionError where no error ends that."""
    rows, outcome, log = folder / "rows", folder / OUTCOME, folder / "log"
    rows.mkdir()
    case.write(rows)
    arguments = [str(rows), dict(case.fields), case.objective, str(outcome)]
    pid = nursery.start(f"{__name__}:live", arguments, {}, log)
    await_end(pid)
    shutil.rmtree(rows)
    assert outcome.exists(), log.read_text() or f"it took more than {LIMIT_SECONDS} s"
    return Measured(**json.loads(outcome.read_text()))


def live(rows: str, fields: dict[str, Any], objective: Any, outcome: str) -> int:
    """What the forked process does."""
    began = _mib("VmRSS")
    _limit(resource.RLIMIT_CPU, LIMIT_SECONDS)
    _limit(resource.RLIMIT_AS, _mib("VmSize") * 2**20 + LIMIT_BYTES)
    try:
        count = read(Path(rows), fields, objective)
    except StageError as error:
        grown = _mib("VmHWM") - began
        found = Measured(error.reason, error.message, error.hint, sum(os.times()[:4]), grown)
        Path(outcome).write_text(json.dumps(asdict(found)))
        return 0
    raise AssertionError(f"{count} good rows")


def _limit(kind: int, most: int) -> None:
    resource.setrlimit(kind, (most, most))


def _mib(name: str) -> int:
    """Not `ru_maxrss`, which counts what the process had that this one was forked from."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) // 1024

"""The prepare stage as its image starts it, forked from a process that has imported what bad data needs."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faults.data.making import Case
from faults.nursery import Nursery, await_end
from lorafinetune.api.datasets import Dataset
from lorafinetune.contract.arguments import ARGUMENTS_VARIABLE, MESSAGE_VARIABLE, WORKDIR_VARIABLE
from lorafinetune_stages.__main__ import main
from lorafinetune_stages.prepare import run
from stages.prepare_builders import TINY_MODEL, Bench

MODULES: Final = (__name__, run.__module__)
LATE_MODULES: Final = (*MODULES, "lorafinetune_stages.prepare.dataset_builder")
"""With what rows need that are found bad as their tokens are made."""
SLOW: Final = ("torch", "transformers", "llamafactory", "datasets")


@dataclass(frozen=True)
class Ended:
    """code: of the exit. message: that it left. log: what it printed. slow: modules that it imported."""

    code: int
    message: str
    log: str
    slow: list[str]


def prepare(nursery: Nursery, case: Case, folder: Path, model: Mapping[str, bytes] = TINY_MODEL) -> Ended:
    """The whole stage, with the case as its only dataset in a store below the folder."""
    message, told, log = folder / "message", folder / "told", folder / "log"
    environment = {
        ARGUMENTS_VARIABLE: _arguments(case, folder, model),
        MESSAGE_VARIABLE: str(message),
        WORKDIR_VARIABLE: str(folder),
    }
    pid = nursery.start(f"{__name__}:live", [str(told)], environment, log)
    await_end(pid)
    code, slow = json.loads(told.read_text())
    return Ended(code, message.read_text(), log.read_text(), slow)


def _arguments(case: Case, folder: Path, model: Mapping[str, bytes]) -> str:
    rows = folder / "rows"
    rows.mkdir()
    case.write(rows)
    files = {path.name: path.read_bytes() for path in rows.iterdir()}
    named = Dataset.decode({"source": "s3://raw/a", **case.fields})
    bench = Bench(folder / "bench", model)
    bench.add(files, **named.model_dump(exclude={"source"}, exclude_unset=True))
    arguments = bench.arguments(objective=case.objective)
    return arguments.model_dump_json(by_alias=True, exclude_none=True)


def live(told: str) -> int:
    """What the forked process does."""
    code = main(["prepare"])
    Path(told).write_text(json.dumps([code, [name for name in SLOW if name in sys.modules]]))
    return code

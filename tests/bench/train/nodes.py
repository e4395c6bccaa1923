"""A training of a model of 9.4 billion parameters by whole stage programs: `python -m bench.train.nodes`.

On one card; on two of one node; on two nodes with one each; and with the base split over both, on one node
and on two. Two nodes are two programs on this machine with a card and a directory each, and NCCL is told to
take the network between them, here the loopback device.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any, Final, Literal

from rich.console import Console

from bench.results import Row, table, write_results
from bench.train.__main__ import DATA
from bench.train.measure import USUAL
from bench.train.site import NINE_BILLION, TINY, Site, make_model, rows
from lorafinetune.contract import keys
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    INDEX_VARIABLE,
    MEETING_VARIABLE,
    MESSAGE_VARIABLE,
    METRICS,
    NODES_VARIABLE,
    PROGRESS_VARIABLE,
    STORE_DIRECTORY_VARIABLE,
    WORKDIR_VARIABLE,
    TrainArguments,
    place,
)
from lorafinetune_stages.store.manifest import read_manifest
from lorafinetune_stages.train.device import CPU_RANKS_VARIABLE, VISIBLE_GPUS
from stages.train_builders import put_dataset, put_model, stand_in, train_arguments

STEPS: Final = 16
CONVERSATIONS: Final = 22
MEETING: Final = "127.0.0.1:29400"
BY_NETWORK: Final = {
    "NCCL_P2P_DISABLE": "1",
    "NCCL_SHM_DISABLE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
    "GLOO_SOCKET_IFNAME": "lo",
}
LOOK_SECONDS: Final = 0.01
GIB: Final = 1024
LAST_WORDS: Final = 3000
USED: Final = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Case:
    """nodes: programs. gpus: of each."""

    name: str
    nodes: int
    gpus: int
    sharding: Literal["fsdp2"] | None = None

    @property
    def ranks(self) -> int:
        return self.nodes * self.gpus


CASES: Final = (
    Case("1 GPU", 1, 1),
    Case("2 GPUs of one node", 1, 2),
    Case("2 nodes with a GPU each", 2, 1),
    Case("2 GPUs of one node, the base split (fsdp2)", 1, 2, "fsdp2"),
    Case("2 nodes with a GPU each, the base split (fsdp2)", 2, 1, "fsdp2"),
)


@dataclass
class Seen:
    """began: when activities did. steps: when they ended, by the monotonic clock. mebibytes: most that was in
    use on any card."""

    began: dict[str, float] = field(default_factory=dict)
    steps: dict[int, float] = field(default_factory=dict)
    mebibytes: int = 0

    def look(self, progress: Path) -> None:
        if not progress.exists():
            return
        now, told = time.monotonic(), json.loads(progress.read_text())
        self.began.setdefault(told.get("activity", ""), now)
        if told.get("activity") == "training":
            self.steps.setdefault(told.get("done", 0), now)


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        root, found = Path(folder), list[Row]()
        wanted = put(root, options.tiny)
        for number in options.only or range(len(CASES)):
            found.append(measured(CASES[number], wanted, root, options.tiny))
            Console().print(table("nodes", found))
            if not options.tiny:
                path = write_results("train_nodes", found)
                if options.copy:
                    shutil.copy(path, options.copy)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.train.nodes")
    parser.add_argument("--scratch", type=Path, help="where there are 80 GB")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to see that it works")
    parser.add_argument("--copy", type=Path, help="directory for a copy of the results")
    return parser.parse_args(arguments)


def put(root: Path, tiny: bool) -> TrainArguments:
    """A model and real conversations in a directory that stands in for the store: what is measured is between
    the cards."""
    site, store = Site(root, gpus=int(not tiny)), stand_in(root)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(make_model, site, TINY if tiny else NINE_BILLION).result()
    put_dataset(store, root / "rows", list(rows(json.loads(DATA.read_text()))))
    base = put_model(store, site.model)
    shutil.rmtree(site.model)
    return train_arguments(store, base, {**USUAL, "maxSteps": STEPS, "batchSize": CONVERSATIONS})


def measured(case: Case, wanted: TrainArguments, root: Path, tiny: bool) -> Row:
    seen = Seen()
    changes = {"key": keys.digest(case.name), "sharding": case.sharding, "gpus": 0 if tiny else case.gpus}
    asked = wanted.model_copy(update=changes)
    with tempfile.TemporaryDirectory(dir=root) as folder, ExitStack() as stack:
        directories = [Path(folder, str(index)) for index in range(case.nodes)]
        programs = [
            stack.enter_context(_program(case, asked, root, directory, index))
            for index, directory in enumerate(directories)
        ]
        began, cards = time.monotonic(), time.monotonic()
        while any(program.poll() is None for program in programs):
            seen.look(directories[0] / "progress")
            if not tiny and time.monotonic() > cards:
                cards = time.monotonic() + 1
                seen.mebibytes = max(seen.mebibytes, *_used())
            time.sleep(LOOK_SECONDS)
        if any(program.returncode for program in programs):
            raise SystemExit("\n".join((each / "log").read_text()[-LAST_WORDS:] for each in directories))
    return _row(case, asked, root, seen, time.monotonic() - began)


def _program(
    case: Case, asked: TrainArguments, root: Path, directory: Path, index: int
) -> "subprocess.Popen[bytes]":
    directory.mkdir()
    own = {
        ARGUMENTS_VARIABLE: asked.model_dump_json(by_alias=True, exclude_none=True),
        MESSAGE_VARIABLE: str(directory / "message"),
        PROGRESS_VARIABLE: str(directory / "progress"),
        STORE_DIRECTORY_VARIABLE: str(root / "buckets"),
        WORKDIR_VARIABLE: str(directory),
        VISIBLE_GPUS: ",".join(str(index + number) for number in range(case.gpus)),
        CPU_RANKS_VARIABLE: str(case.gpus),
        **(_meeting(case, index) if case.nodes > 1 else {}),
    }
    with (directory / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lorafinetune_stages", "train"],
            env=os.environ | own,
            stdout=log,
            stderr=log,
        )


def _meeting(case: Case, index: int) -> Mapping[str, str]:
    told = {NODES_VARIABLE: str(case.nodes), MEETING_VARIABLE: MEETING, INDEX_VARIABLE: str(index)}
    return {**told, **BY_NETWORK}


def _used() -> Iterator[int]:
    """MiB of each card."""
    yield from map(int, subprocess.run(USED, capture_output=True, text=True, check=True).stdout.split())


def _row(case: Case, asked: TrainArguments, root: Path, seen: Seen, seconds: float) -> Row:
    store, trained = stand_in(root), place("trainings", asked.key)
    log = store.root / trained / METRICS
    logged: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    manifest = read_manifest(store, trained)
    assert manifest
    tokens = logged[-1]["tokens"] / STEPS
    later = [(number, second) for number, second in seen.steps.items() if number >= STEPS // 2]
    step = median((after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(later))
    return {
        "program": case.name,
        "tokens a step": round(tokens),
        "step ms": round(1000 * step),
        "tokens/s": round(tokens / step),
        "estimate GiB": round(manifest.lineage["plan"]["estimatedBytes"] / 2**30, 1),
        "most GiB of a card": round(seen.mebibytes / GIB, 1),
        "load s": round(seen.steps[0] - seen.began["loading the model"], 1),
        "first step s": round(seen.steps[1] - seen.steps[0], 1),
        "in all s": round(seconds, 1),
        "loss at step 4": round(logged[3]["loss"], 4),
        "mean loss of the last 8": round(mean(row["loss"] for row in logged[-8:]), 4),
    }


if __name__ == "__main__":
    main(sys.argv[1:])

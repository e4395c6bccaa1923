"""What a card is held for beside the steps of a training: `python -m bench.train.held`.

The train stage runs as its Job runs it, from the start of the process to its end, with a model of 9.4 billion
parameters in a real S3 server on the same machine. With `--gbit 10` the loopback device carries no more than
that (`tc`, as root). Beside it: what as much takes over the same network into memory, and onto the disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import obstore
from obstore.store import S3Store
from rich.console import Console

from bench.results import Row, table, write_results
from bench.store import connection, set_keys
from bench.train.__main__ import DATA
from bench.train.measure import USUAL
from bench.train.site import NINE_BILLION, TINY, Site, make_model, rows
from cluster.s3server import S3Server
from lorafinetune.api.sources import Storage
from lorafinetune.contract.arguments import (
    ARGUMENTS_VARIABLE,
    MESSAGE_VARIABLE,
    PROGRESS_VARIABLE,
    WORKDIR_VARIABLE,
    TrainArguments,
)
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.factory import open_store
from stages.train_builders import put_dataset, put_model, train_arguments

STEPS: Final = 16
STEPS_ON_A_CPU: Final = 4
BUCKET: Final = "held"
URI: Final = f"s3://{BUCKET}/runs"
LOOK_SECONDS: Final = 0.02
STARTING: Final = "starting, importing, looking for what is there"
DOWNLOADING: Final = "downloading the model and the dataset"
IMPORTING: Final = "importing LLaMA-Factory, which began with the download"
FIRST: Final = "the first step, compiling"
TRAINING: Final = "training"
SHAPED: Final = ("tc", "qdisc")
BURST: Final = ("burst", "16mb", "latency", "50ms")
PIECE: Final = 8 * 2**20
READERS: Final = 16
LAST_WORDS: Final = 3000


@dataclass(frozen=True)
class Seen:
    """An activity that began, or the first step that ended, at a second of the monotonic clock."""

    what: str
    second: float


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    gpus = 0 if options.tiny else 1
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        root = Path(folder)
        with S3Server(root) as server:
            set_keys(server)
            server.create_bucket(BUCKET)
            store = open_store(URI, connection(server.endpoint))
            wanted = put(root, store, gpus, server.endpoint)
            with limited(options.gbit):
                found = [*measured(wanted, root), *limits(server, root)]
    if options.tiny:
        Console().print(table("held", found))
    else:
        write_results("held", found)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.train.held")
    parser.add_argument("--scratch", type=Path, help="where there are 60 GB")
    parser.add_argument("--gbit", type=float, help="what the network carries; as much as it can by default")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to see that it works")
    return parser.parse_args(arguments)


def put(root: Path, store: Store, gpus: int, endpoint: str) -> TrainArguments:
    """A model and real conversations in the store, and what is asked of the stage."""
    site = Site(root, gpus)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(make_model, site, NINE_BILLION if gpus else TINY).result()
    put_dataset(store, root / "rows", list(rows(json.loads(DATA.read_text()))))
    base = put_model(store, site.model)
    shutil.rmtree(site.model)
    os.sync()
    fields = {**USUAL, "maxSteps": STEPS if gpus else STEPS_ON_A_CPU, "batchSize": 8}
    reached = connection(endpoint)
    changes = {
        "gpus": gpus,
        "storage": Storage(uri=store.uri, connection=reached.name),
        "connections": (reached,),
    }
    return train_arguments(store, base, fields).model_copy(update=changes)


@contextmanager
def limited(gbit: float | None) -> Iterator[None]:
    """While this is entered, the loopback device carries no more."""
    if gbit is None:
        yield
        return
    subprocess.run([*SHAPED, "add", "dev", "lo", "root", "tbf", "rate", f"{gbit}gbit", *BURST], check=True)
    try:
        yield
    finally:
        subprocess.run([*SHAPED, "del", "dev", "lo", "root"], check=True)


def measured(wanted: TrainArguments, root: Path) -> list[Row]:
    """A row for each thing that the stage did, and for all but the steps and the compiling."""
    seen = watched(wanted, root)
    spans = {here.what: there.second - here.second for here, there in pairwise(seen)}
    steps = wanted.training.max_steps or STEPS
    step = spans[TRAINING] / (steps - 1)
    compiling = max(0.0, spans[FIRST] - step)
    held = seen[-1].second - seen[0].second
    beside = held - compiling - steps * step
    size = round(wanted.model.bytes / 1e6)
    return [
        *(
            {"what": what, "seconds": round(span, 1), **_rate(what == DOWNLOADING, size, span)}
            for what, span in spans.items()
        ),
        {"what": "held in all", "seconds": round(held, 1)},
        {"what": f"of that the {steps} steps", "seconds": round(steps * step, 1)},
        {"what": "of that compiling", "seconds": round(compiling, 1)},
        {"what": "beside both", "seconds": round(beside, 1)},
    ]


def _rate(wanted: bool, megabytes: int, seconds: float) -> Row:
    return {"MB": megabytes, "MB/s": round(megabytes / seconds)} if wanted else {}


def watched(wanted: TrainArguments, root: Path) -> list[Seen]:
    """What the stage told, as it told it, from the start of its process to its end."""
    progress, scratch = root / "progress.json", root / "work"
    scratch.mkdir()
    own = {
        ARGUMENTS_VARIABLE: wanted.model_dump_json(by_alias=True, exclude_none=True),
        PROGRESS_VARIABLE: str(progress),
        MESSAGE_VARIABLE: str(root / "message.json"),
        WORKDIR_VARIABLE: str(scratch),
    }
    seen = [Seen(STARTING, time.monotonic())]
    with (root / "stage.log").open("w") as log:
        stage = subprocess.Popen(
            [sys.executable, "-m", "lorafinetune_stages", "train"],
            env=os.environ | own,
            stderr=log,
            stdout=log,
        )
        while stage.poll() is None:
            _look(progress, seen)
            time.sleep(LOOK_SECONDS)
    if stage.returncode:
        raise SystemExit((root / "stage.log").read_text()[-LAST_WORDS:])
    return [*seen, Seen("ended", time.monotonic())]


def _look(progress: Path, seen: list[Seen]) -> None:
    """Notes what began since the last look. The file is replaced whole, so it is never half written."""
    if not progress.exists():
        return
    told = json.loads(progress.read_text())
    what, done = told.get("activity"), told.get("done", 0)
    if what == TRAINING:
        what = TRAINING if done else FIRST
    if what == DOWNLOADING and done == told.get("total"):
        what = IMPORTING
    if what and what != seen[-1].what:
        seen.append(Seen(what, time.monotonic()))


def limits(server: S3Server, root: Path) -> list[Row]:
    """The same network into memory, and the same disk, each without the other and unverified."""
    bulk = S3Store(
        BUCKET,
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    files = [each for page in obstore.list(bulk, "runs/models/") for each in page]
    pieces = [
        (each["path"], start, min(PIECE, each["size"] - start))
        for each in files
        for start in range(0, each["size"], PIECE)
    ]
    size = sum(length for _, _, length in pieces)

    def read(piece: tuple[str, int, int]) -> None:
        path, start, length = piece
        obstore.get_range(bulk, path, start=start, length=length)

    began = time.monotonic()
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, pieces))
    network = time.monotonic() - began
    piece = os.urandom(PIECE)
    began = time.monotonic()
    with (root / "disk").open("wb") as file:
        for _ in range(size // PIECE):
            file.write(piece)
        os.fsync(file.fileno())
    disk = time.monotonic() - began
    (root / "disk").unlink()
    megabytes = round(size / 1e6)
    return [
        {"what": what, "seconds": round(seconds, 1), **_rate(True, megabytes, seconds)}
        for what, seconds in (
            ("limit: the network into memory", network),
            ("limit: as much onto the disk", disk),
        )
    ]


if __name__ == "__main__":
    main(sys.argv[1:])

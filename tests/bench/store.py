"""How fast files move between scratch and store, against a plain copy: `python -m bench.store`.

Every measurement is a process of its own, so that its memory and CPU time are its own; the S3 server shares
the machine, and its CPU time is not counted. What a measurement wrote is on the disk before the next begins.
Set against boto3's own transfer, the rows also say why bulk data goes through obstore.
"""

import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3

from bench.results import Row, write_results
from cluster.s3server import S3Server
from lorafinetune.api.sources import Connection, SecretReference
from lorafinetune.contract.arguments import credential_variable
from lorafinetune_stages.store import Store
from lorafinetune_stages.store.directory import DirectoryStore
from lorafinetune_stages.store.factory import open_store
from lorafinetune_stages.store.manifest import commit_manifest, read_manifest
from lorafinetune_stages.store.streams import chunks_of
from lorafinetune_stages.store.transfer import WORKERS, download_tree, upload_tree

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MEBIBYTE: Final = 2**20
SETS: Final = {"4 × 256 MiB": (4, 256 * MEBIBYTE), "2000 × 256 KiB": (2000, 256 * 1024)}
REPEATS: Final = 3
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
BOUND_SECONDS: Final = 300
PLACE: Final = f"models/{'0' * 64}"


@dataclass(frozen=True)
class Task:
    """One measurement. target: a directory, or an endpoint. scratch: is made, and removed again."""

    what: str
    source: Path
    target: str
    bucket: str
    scratch: Path


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    peak_mb: float


def main() -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, S3Server(Path(folder)) as server:
        set_keys(server)
        for name, (count, size) in SETS.items():
            source = make_files(Path(folder) / f"source-{count}", count, size)
            server.create_bucket(source.name)
            rows += measure_set(name, source, server.endpoint, Path(folder))
    write_results("store", rows)


def measure_set(name: str, source: Path, endpoint: str, folder: Path) -> list[Row]:
    total = sum(path.stat().st_size for path in source.iterdir()) / MEBIBYTE
    directory = folder / "directory"
    tasks = [
        Task(what, source, endpoint if "S3" in what else str(directory), source.name, folder / "scratch")
        for what in MEASUREMENTS
    ]
    rounds = [[measure(task) for task in tasks] for _ in range(REPEATS)]
    shutil.rmtree(directory)
    return [
        row(name, task, total, costs) for task, costs in zip(tasks, zip(*rounds, strict=True), strict=True)
    ]


def row(name: str, task: Task, total: float, costs: Sequence[Cost]) -> Row:
    """total: in MiB. Medians, and the slowest and largest of all rounds."""
    return {
        "files": name,
        "what": task.what,
        "MiB/s": round(total / statistics.median(cost.seconds for cost in costs)),
        "slowest MiB/s": round(total / max(cost.seconds for cost in costs)),
        "CPU s": round(statistics.median(cost.cpu_seconds for cost in costs), 2),
        "peak MB": round(max(cost.peak_mb for cost in costs)),
    }


def measure(task: Task) -> Cost:
    """Runs it in a fresh process."""
    os.sync()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        cost = pool.apply_async(perform, (task,)).get(BOUND_SECONDS)
    shutil.rmtree(task.scratch, ignore_errors=True)
    return cost


def perform(task: Task) -> Cost:
    task.scratch.mkdir()
    move = MEASUREMENTS[task.what](task)
    began, used = time.perf_counter(), cpu_seconds()
    move()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(seconds, cpu_seconds() - used, peak)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def copy(task: Task) -> Callable[[], None]:
    """As `cp -r` does: the kernel copies, and the data need not be on the disk at the end."""

    def move() -> None:
        for path in sorted(task.source.iterdir()):
            shutil.copyfile(path, task.scratch / path.name)

    return move


def copy_to_disk(task: Task) -> Callable[[], None]:
    """A plain copy of which every file is on the disk at the end, as the store's are."""

    def move() -> None:
        for path in sorted(task.source.iterdir()):
            shutil.copyfile(path, task.scratch / path.name)
            with (task.scratch / path.name).open("rb") as file:
                os.fsync(file)

    return move


def upload(task: Task) -> Callable[[], None]:
    store = store_of(task)

    def move() -> None:
        upload_tree(store, task.source, PLACE)

    return move


def put(task: Task) -> Callable[[], None]:
    """Streams of unknown length, as a download from a hub is."""
    store = store_of(task)

    def put_one(path: Path) -> None:
        with path.open("rb") as file:
            store.put(f"{PLACE}/{path.name}", chunks_of(file))

    return lambda: in_parallel(put_one, task.source)


def download(task: Task) -> Callable[[], None]:
    """Verified, as every stage reads its inputs."""
    store = store_of(task)
    manifest = read_manifest(store, PLACE)
    if manifest is None:
        files = upload_tree(store, task.source, PLACE)
        manifest = commit_manifest(store, PLACE, "model", "0" * 64, files, {}, None)
        os.sync()
    return lambda: download_tree(store, PLACE, manifest, task.scratch)


def boto3_upload(task: Task) -> Callable[[], None]:
    client = boto3_client(task.target)
    return lambda: in_parallel(
        lambda path: client.upload_file(str(path), task.bucket, f"boto3/{path.name}"), task.source
    )


def boto3_download(task: Task) -> Callable[[], None]:
    """Not verified."""
    client = boto3_client(task.target)
    return lambda: in_parallel(
        lambda path: client.download_file(task.bucket, f"boto3/{path.name}", str(task.scratch / path.name)),
        task.source,
    )


def in_parallel(move: Callable[[Path], None], source: Path) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(move, source.iterdir()))


def store_of(task: Task) -> Store:
    if task.target.startswith("http"):
        return open_store(f"s3://{task.bucket}/runs", connection(task.target))
    return DirectoryStore(Path(task.target))


def connection(endpoint: str) -> Connection:
    """With the keys that `set_keys` left."""
    return Connection(name="bench", endpoint=endpoint, secret_ref=SecretReference(name="bench"))


def boto3_client(endpoint: str) -> "S3Client":
    return boto3.client(
        "s3",
        region_name=S3Server.region,
        endpoint_url=endpoint,
        aws_access_key_id=os.environ[credential_variable("bench", KEYS[0])],
        aws_secret_access_key=os.environ[credential_variable("bench", KEYS[1])],
    )


def set_keys(server: S3Server) -> None:
    for key, value in zip(KEYS, (server.access_key, server.secret_key), strict=True):
        os.environ[credential_variable("bench", key)] = value


def make_files(folder: Path, count: int, size: int) -> Path:
    folder.mkdir()
    for number in range(count):
        with (folder / f"{number:04}").open("wb") as file:
            for start in range(0, size, MEBIBYTE):
                file.write(os.urandom(min(MEBIBYTE, size - start)))
    return folder


MEASUREMENTS: Final[dict[str, Callable[[Task], Callable[[], None]]]] = {
    "plain copy": copy,
    "plain copy, to the disk": copy_to_disk,
    "directory: upload": upload,
    "directory: put": put,
    "directory: download": download,
    "S3: upload": upload,
    "S3: put": put,
    "S3: download": download,
    "S3 by boto3 alone: upload": boto3_upload,
    "S3 by boto3 alone: download": boto3_download,
}


if __name__ == "__main__":
    main()

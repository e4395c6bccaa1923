"""Writers of a store that are killed at random, which must leave no uploads behind: `python -m soak.uploads`.

What S3 has of an unfinished upload is in no listing of objects, and is paid for. The next writer aborts
uploads that nobody has gone on with for a day: here for some seconds. What came of it is kept in
docs/results/soak_uploads.json. The exit status is 1 where something is left.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.progress import track

from bench.results import Row, write_results
from bench.store import set_keys
from cluster.s3server import S3Server
from soak.writer import STALE_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME: Final = "soak_uploads"
BUCKET: Final = "soaked"
URI: Final = f"s3://{BUCKET}/runs"
LONGEST_SECONDS: Final = 1.0
"""An upload that is left alone takes about half of it."""


@dataclass(frozen=True)
class Soaked:
    """most: unfinished uploads that were there at once. left: those in the end. parts_left: files that
    the server has on its disk then, and that are no objects: it may keep parts of what it lists no more."""

    writers: int
    killed: int
    most: int
    left: int
    parts_left: int

    def rows(self) -> list[Row]:
        return [
            {"what": "writers", "count": self.writers, "goal": ""},
            {"what": "writers that were killed", "count": self.killed, "goal": ""},
            {"what": "unfinished uploads on the way, at most", "count": self.most, "goal": ""},
            {"what": "unfinished uploads left", "count": self.left, "goal": "0"},
            {"what": "files of parts left on the server's disk", "count": self.parts_left, "goal": "0"},
        ]


def main() -> int:
    options = argparse.ArgumentParser(prog=NAME)
    options.add_argument("--writers", type=int, default=300)
    options.add_argument("--at-once", type=int, default=4, help="how many there are beside each other")
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soaked = soak(Path(folder), given.writers, given.at_once, given.seed)
    write_results(NAME, soaked.rows(), seed=given.seed)
    return int(soaked.left + soaked.parts_left > 0)


def soak(folder: Path, writers: int, at_once: int, seed: int) -> Soaked:
    with S3Server(folder) as server:
        set_keys(server)
        server.create_bucket(BUCKET)
        client, drawn = server.client(), random.Random(seed)
        lives = [(number, drawn.uniform(0, LONGEST_SECONDS)) for number in range(writers)]

        def live(life: tuple[int, float]) -> tuple[bool, int]:
            number, seconds = life
            return write(server.endpoint, number, seconds), len(unfinished(client))

        with ThreadPoolExecutor(at_once) as pool:
            seen = list(track(pool.map(live, lives), "writers", writers, transient=True))
        time.sleep(STALE_SECONDS)
        write(server.endpoint, writers, None)
        left = unfinished(client)
        parts = len(files_of_parts(client, server.data_dir))
    killed = sum(was for was, _ in seen)
    return Soaked(writers + 1, killed, max(there for _, there in seen), len(left), parts)


def write(endpoint: str, number: int, seconds: float | None) -> bool:
    """Has one write, and kills it after so many seconds. Returns whether it was still there."""
    command = [sys.executable, "-m", "soak.writer", endpoint, URI, f"models/{number}/model.safetensors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        try:
            code = writer.wait(seconds)
        except subprocess.TimeoutExpired:
            writer.kill()
            return True
    if code:
        raise SystemExit(f"writer {number} ended with {code}")
    return False


def unfinished(client: "S3Client") -> list[tuple[str, str]]:
    """Keys and names of all unfinished uploads."""
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
    return [(each["Key"], each["UploadId"]) for page in pages for each in page.get("Uploads", [])]


def files_of_parts(client: "S3Client", disk: Path) -> list[Path]:
    """What lies on the disk of a server that keeps each object as a file, and is none."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    objects = {disk / BUCKET / each["Key"] for page in pages for each in page.get("Contents", [])}
    return [path for path in (disk / BUCKET).rglob("*") if path.is_file() and path not in objects]


if __name__ == "__main__":
    sys.exit(main())

"""One that writes into a store, for others to kill: `python -m soak.writer ENDPOINT URI KEY`."""

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from bench.store import connection
from lorafinetune_stages.store import s3_control
from lorafinetune_stages.store.factory import open_store

STALE_SECONDS: Final = 3.0
"""After which an upload is nobody's any more: a day, in the product."""
PARTS: Final = 4
CHUNK: Final = bytes(2**20)
CHUNKS_OF_A_PART: Final = 8
PAUSE_SECONDS: Final = 0.01


def main(endpoint: str, uri: str, key: str) -> None:
    s3_control.STALE_UPLOAD = timedelta(seconds=STALE_SECONDS)  # type: ignore[misc]  # a Final, shortened for the test
    store = open_store(uri, connection(endpoint))
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    store.put(key, _chunks())


def _chunks() -> Iterator[bytes]:
    for _ in range(PARTS * CHUNKS_OF_A_PART):
        time.sleep(PAUSE_SECONDS)
        yield CHUNK


if __name__ == "__main__":
    main(*sys.argv[1:])

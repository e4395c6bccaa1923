"""A hub that shows its one dataset to everybody: `python -m chaos.public_hub ADDRESS PORT ROWS`.

It needs the modules of `hubs` and Python, and runs on the node. ROWS is a file of JSON lines.
"""

import sys
from pathlib import Path
from threading import Event
from typing import Final

from hubs.huggingface import HuggingFaceHub
from hubs.repository import COMMIT, Repository

PROGRAM: Final = "hub"
"""A name that no program of a pod has."""
THERE: Final = f"/api/datasets/owner/rows/revision/{COMMIT}"
"""What it answers once it serves."""


class PublicHub(HuggingFaceHub):
    def __init__(self, rows: bytes, address: tuple[str, int]) -> None:
        self.address = address
        super().__init__({"datasets/owner/rows": Repository({"rows.jsonl": rows})})


def main() -> None:
    address, port, rows = sys.argv[1:]
    Path("/proc/self/comm").write_text(PROGRAM)
    with PublicHub(Path(rows).read_bytes(), (address, int(port))):
        Event().wait()


if __name__ == "__main__":
    main()

"""A hub whose one dataset is shown to nobody without its token: `python -m hubs.private PORT`, in a pod too.

The rows and the token come by its environment. It needs these modules and Python, and nothing else.
"""

import os
import sys
from threading import Event
from typing import Final

from hubs.huggingface import HuggingFaceHub
from hubs.repository import COMMIT, Repository
from hubs.server import LOOPBACK

MODULES: Final = ("huggingface.py", "private.py", "repository.py", "server.py")
DATASET: Final = {"source": "hf://owner/rows", "revision": COMMIT, "format": "alpaca"}
"""As a resource names it."""
ROWS_VARIABLE: Final = "HUB_ROWS"
TOKEN_VARIABLE: Final = "HUB_TOKEN"


class PrivateHub(HuggingFaceHub):
    """rows: of the dataset, in JSON lines. token: what opens it."""

    def __init__(self, rows: bytes, token: str, address: tuple[str, int] = LOOPBACK) -> None:
        self.address = address
        super().__init__({"datasets/owner/rows": Repository({"rows.jsonl": rows}, token=token)})
        self.tokens = {token}


def main(port: str) -> None:
    everywhere = ("0.0.0.0", int(port))  # noqa: S104 - for a Service
    with PrivateHub(os.environ[ROWS_VARIABLE].encode(), os.environ[TOKEN_VARIABLE], everywhere):
        Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A hub with a model and a dataset, the host of its large files, and a bench that is connected to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hubs.huggingface import Cdn
from hubs.repository import Hub, Repository, model
from stages.download_builders import HUBS, Bench, hub

WEIGHTS = "model.safetensors"
MODEL_FILES = model(modeling_custom__py=b"raise SystemExit", pytorch_model__bin=b"pickle")
TAKEN = {name: body for name, body in MODEL_FILES.items() if not name.endswith((".py", ".bin"))}
ROWS = b'[{"instruction": "hi", "output": "hello"}]'
DATA_FILES = {
    "rows.json": ROWS,
    "more/rows.jsonl": b"{}",
    "dataset_infos.json": b"{}",
    "notes.txt": b"notes",
    "run.py": b"exit()",
}
REPOSITORIES = {
    "models/owner/model": Repository(MODEL_FILES),
    "datasets/owner/data": Repository(DATA_FILES),
}
TOKENS = {"hf": "hf_good", "modelscope": "ms-good"}
LISTINGS = {"hf": "/api/models/owner/model", "modelscope": "/repo/files"}


@dataclass
class Site:
    """A hub, the host of its large files, and a bench that is connected to it."""

    scheme: str
    server: Hub
    cdn: Cdn
    bench: Bench

    @property
    def model(self) -> str:
        return f"{self.scheme}://owner/model"

    @property
    def data(self) -> str:
        return f"{self.scheme}://owner/data"

    @property
    def host(self) -> str:
        return self.server.url.removeprefix("http://")

    @property
    def listing(self) -> str:
        return LISTINGS[self.scheme]

    def has_files(self, files: dict[str, bytes]) -> None:
        assert self.bench.files(self.bench.place(self.bench.run(self.model))) == files


@contextmanager
def connected(scheme: str, directory: Path) -> Iterator[Site]:
    with Cdn(MODEL_FILES) as cdn, HUBS[scheme](REPOSITORIES) as server:
        yield Site(scheme, server, cdn, Bench(directory, hub(server.url)))

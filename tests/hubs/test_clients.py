"""The local hubs are what the hubs' own clients speak to: so what is tested against them holds.

The clients list, and download every file whole, in the ways in which they do it by themselves.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory
from modelscope_hub import HubApi, HubConfig

from hubs.huggingface import Cdn, HuggingFaceHub
from hubs.modelscope import ModelScopeHub
from hubs.repository import COMMIT, Repository, model, sha256

FILES = model(LICENSE=b"Apache License")
REPOSITORIES = {
    "models/owner/model": Repository(FILES),
    "datasets/owner/data": Repository({"a/rows.json": b"[{}]", "b.jsonl": b"{}"}),
}


def below(directory: Path) -> dict[str, bytes]:
    paths = [path for path in directory.rglob("*") if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def default_client() -> Iterator[None]:
    """huggingface_hub as it is, with no connection left open."""
    huggingface_hub.set_client_factory(default_client_factory)
    yield
    huggingface_hub.close_session()


@pytest.mark.usefixtures("default_client")
@pytest.mark.parametrize(("kind", "name"), [("model", "owner/model"), ("dataset", "owner/data")])
def test_huggingface_hub_downloads_from_the_local_hub(tmp_path: Path, kind: str, name: str) -> None:
    files = REPOSITORIES[f"{kind}s/{name}"].files
    with Cdn(FILES) as cdn, HuggingFaceHub(REPOSITORIES, cdn.url) as hub:
        api = huggingface_hub.HfApi(hub.url, token=False)
        ask: Any = {"model": api.model_info, "dataset": api.dataset_info}[kind]
        info = ask(name, files_metadata=True)
        for path in files:
            api.hf_hub_download(name, path, repo_type=kind, revision=COMMIT, local_dir=tmp_path / "files")

    assert info.sha == COMMIT
    assert {(file.rfilename, file.size) for file in info.siblings or ()} == {
        (path, len(body)) for path, body in files.items()
    }
    assert below(tmp_path / "files") == files


@pytest.mark.parametrize(("kind", "name"), [("model", "owner/model"), ("dataset", "owner/data")])
def test_modelscope_hub_downloads_from_the_local_hub(tmp_path: Path, kind: str, name: str) -> None:
    files = REPOSITORIES[f"{kind}s/{name}"].files
    with Cdn(FILES) as cdn, ModelScopeHub(REPOSITORIES, cdn.url) as hub:
        api = HubApi(HubConfig(endpoint=hub.url, token="", cache_dir=tmp_path, config_dir=tmp_path))
        listed = api.list_repo_files(name, kind, revision=COMMIT)
        for path in files:
            api.download_file(name, kind, path, revision=COMMIT, local_dir=tmp_path / "files")

    assert {(file.path, file.size, file.sha256) for file in listed if not file.is_dir} == {
        (path, len(body), sha256(body)) for path, body in files.items()
    }
    assert below(tmp_path / "files") == files

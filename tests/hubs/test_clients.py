"""The local hubs are what the hubs' own clients speak to: so what is tested against them holds.

The clients list, download every file whole, and upload a directory, in the ways in which they do it by
themselves.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils._http import default_client_factory
from modelscope_hub import HubApi, HubConfig

from hubs.huggingface import Cdn, HuggingFaceHub
from hubs.huggingface_writing import WritableHuggingFaceHub
from hubs.modelscope import ModelScopeHub
from hubs.modelscope_writing import WritableModelScopeHub
from hubs.repository import COMMIT, Repository, model, sha256
from hubs.writing import Storage
from stages.download_builders import write
from stages.publish_builders import FILES as PUBLISHED
from stages.publish_builders import TOKEN_VARIABLE, Site

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


@pytest.mark.usefixtures("default_client")
@pytest.mark.filterwarnings("ignore:Warnings while validating metadata", "ignore:Use .content=")
@pytest.mark.parametrize("part_bytes", [None, 50_000], ids=["whole files", "files in parts"])
def test_huggingface_hub_uploads_to_the_local_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int | None
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    directory = write(tmp_path / "model", PUBLISHED)
    with Storage() as storage, WritableHuggingFaceHub(storage) as hub:
        hub.part_bytes = part_bytes
        api = huggingface_hub.HfApi(hub.url, token="hf_good")
        assert api.whoami()["name"] == "team"
        api.create_repo("team/tuned", private=True)
        api.auth_check("team/tuned", write=True)
        commit = api.upload_folder(repo_id="team/tuned", folder_path=directory)
        again = api.upload_folder(repo_id="team/tuned", folder_path=directory)

    made = hub.repositories["models/team/tuned"]
    assert {path: made.files[path] for path in PUBLISHED} == dict(PUBLISHED)
    assert hub.books.visibility == {"models/team/tuned": "private"}
    assert commit.oid == again.oid == made.commits["main"]


def _uploaded_by_modelscope_hub(hub: WritableModelScopeHub, root: Path) -> None:
    """As the client does it, without its hints for large uploads."""
    api = HubApi(HubConfig(endpoint=hub.url, token="ms-good", cache_dir=root, config_dir=root))
    assert api.whoami().username == "team"
    api.create_repo("team/tuned", "model", visibility="private", license="mit")
    api.upload_folder("team/tuned", "model", write(root / "model", PUBLISHED), disable_tqdm=True)
    assert api.repo_exists("team/tuned", "model")


def _written(hub: WritableModelScopeHub) -> tuple[Any, list[Any], dict[str, Any]]:
    """What was asked of a hub: the repository, large files, and actions by path."""
    creation = next(json.loads(r.body) for r in hub.requests if r.path == "/api/v1/models")
    batches = [json.loads(request.body)["objects"] for request in hub.asked("/objects/batch")]
    (commit,) = hub.asked("/commit/master")
    actions = {action["path"]: action for action in json.loads(commit.body)["actions"]}
    return creation, sorted((o["oid"], o["size"]) for batch in batches for o in batch), actions


@pytest.mark.parametrize("elsewhere", [True, False], ids=["another host", "the hub itself"])
def test_modelscope_hub_asks_the_local_hub_for_what_we_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "ms-good")
    with Storage() as storage, WritableModelScopeHub(storage) as hub:
        hub.elsewhere = elsewhere
        _uploaded_by_modelscope_hub(hub, tmp_path)
        theirs = _written(hub), hub.repositories["models/team/tuned"].files, hub.books.visibility
    with Storage() as storage, WritableModelScopeHub(storage) as hub:
        hub.elsewhere = elsewhere
        Site("modelscope", hub, storage, tmp_path).publish()
        ours = _written(hub), hub.repositories["models/team/tuned"].files, hub.books.visibility

    assert ours == theirs

"""The Hugging Face Hub's API, as far as its client and this project ask it.

Repositories and their files by commit; large files on another host, behind a redirect.
"""

import json
import re
from collections.abc import Mapping

from hubs.repository import Hub, Repository, blob_id, sha256
from hubs.server import Answer, Request, Server, ranged

API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)(/revision/(?P<revision>.+))?")
RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
LARGE = ".safetensors"


class HuggingFaceHub(Hub):
    """Names the repositories `OWNER/NAME` and `datasets/OWNER/NAME`, and says in a header why it refuses."""

    def answer(self, request: Request) -> Answer:
        asked = API.fullmatch(request.path) or RESOLVE.fullmatch(request.path)
        if not asked:
            return Answer(404)
        kind = "datasets" if (asked["kind"] or "").startswith("datasets") else "models"
        repository = self.repositories.get(f"{kind}/{asked['id']}")
        if refusal := self._refusal(request, repository):
            return refusal
        assert repository
        commit = repository.commit_of(asked["revision"] or "main")
        if commit is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {asked['revision']}")
        if "path" in asked.groupdict():
            return self._file(request, repository, commit, asked["path"])
        return Answer(200, json.dumps(_info(asked["id"], repository, commit)).encode())

    def _refusal(self, request: Request, repository: Repository | None) -> Answer | None:
        if request.token and request.token not in self.tokens:
            return Answer(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        private = repository is None or (repository.token and not repository.gated)
        if private and not (repository and request.token == repository.token):
            return _error(404 if request.token else 401, "RepoNotFound", "Repository not found")
        if repository and repository.gated and request.token != repository.token:
            return _error(403 if request.token else 401, "GatedRepo", "Access to this model is restricted")
        return None

    def _file(self, request: Request, repository: Repository, commit: str, path: str) -> Answer:
        body = repository.files.get(path)
        if body is None:
            return _error(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{sha256(body)}"', "Accept-Ranges": "bytes"}
        if path.endswith(LARGE) and self.cdn:
            linked = {"X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{sha256(body)}"'}
            return Answer(
                302, headers={**headers, **linked, "Location": f"{self.cdn}/blob/{sha256(body)}?Signature=s"}
            )
        return ranged(request, body, headers)


class Cdn(Server):
    """The other host: files by their sha256."""

    def __init__(self, *files: Mapping[str, bytes]) -> None:
        super().__init__()
        self.blobs = {sha256(body): body for group in files for body in group.values()}
        self.url = self.url.replace("127.0.0.1", "localhost")

    def answer(self, request: Request) -> Answer:
        return ranged(request, self.blobs[request.path.rpartition("/")[2]], {})


def _error(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"error": message}).encode()
    return Answer(status, body, {"X-Error-Code": code, "X-Error-Message": message})


def _info(name: str, repository: Repository, commit: str) -> dict[str, object]:
    return {
        "_id": "0",
        "id": name,
        "sha": commit,
        "private": False,
        "tags": [],
        "siblings": [_sibling(path, body) for path, body in repository.files.items()],
    }


def _sibling(path: str, body: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": path, "size": len(body), "blobId": blob_id(body)}
    if path.endswith(LARGE):
        entry["lfs"] = {"sha256": sha256(body), "size": len(body), "pointerSize": 130}
    return entry

"""ModelScope's API, as far as its client and this project ask it.

Its peculiarities are kept: a revision that does not exist is answered with 200 and no files; a listing
names its commit by eight digits; large files are on another host, behind a redirect.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from hubs.repository import OLD_COMMIT, Hub, Repository, sha256
from hubs.server import Answer, Request, ranged

API = re.compile(
    r"/api/v1/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)/(?P<what>revisions|repo/files|repo/tree|repo)"
)
LARGE = ".safetensors"


class ModelScopeHub(Hub):
    """changed: the files that the newest commit changed."""

    def __init__(self, repositories: Mapping[str, Repository], cdn: str = "") -> None:
        super().__init__(repositories, cdn)
        self.changed = {"config.json", "rows.json"}

    def answer(self, request: Request) -> Answer:
        asked = API.fullmatch(request.path)
        if not asked:
            return failure(404, "not found")
        repository = self.repositories.get(f"{asked['kind']}/{asked['id']}")
        if refusal := self._refusal(request, repository):
            return refusal
        assert repository
        match asked["what"]:
            case "revisions":
                return success(_revisions(repository))
            case "repo":
                return self._file(request, repository)
            case _:
                return success(self._listing(request, repository))

    def _refusal(self, request: Request, repository: Repository | None) -> Answer | None:
        if request.token and request.token not in self.tokens:
            return failure(401, "token is invalid")
        if repository is None or (repository.token and not repository.gated and not request.token):
            return failure(404, "record not found")
        if repository.gated and request.token != repository.token:
            return failure(403, "access denied")
        return None

    def _file(self, request: Request, repository: Repository) -> Answer:
        body = repository.files.get(request.query["FilePath"])
        if body is None or repository.commit_of(request.query["Revision"]) is None:
            return failure(404, "file not found")
        if request.query["FilePath"].endswith(LARGE) and self.cdn:
            return Answer(302, headers={"Location": f"{self.cdn}/blob/{sha256(body)}?Signature=s"})
        return ranged(request, body, {"ETag": f'"{sha256(body)}"'})

    def _listing(self, request: Request, repository: Repository) -> dict[str, Any]:
        commit = repository.commit_of(request.query["Revision"])
        if commit is None:
            return {"Files": None, "LatestCommitter": None, "IsVisual": 0}
        entries = self._entries(repository, commit, request.query["Recursive"] == "True")
        if "PageSize" in request.query:
            size, page = int(request.query["PageSize"]), int(request.query["PageNumber"])
            entries = entries[size * (page - 1) : size * page]
        return {"Files": entries, "LatestCommitter": {"Id": "", "ShortId": commit[:8]}, "IsVisual": 0}

    def _entries(self, repository: Repository, commit: str, recursive: bool) -> list[dict[str, Any]]:
        entries = []
        for path, body in sorted(repository.files.items()):
            if "/" in path and not recursive:
                continue
            changed = commit if path in self.changed else OLD_COMMIT
            entry = {"Path": path, "Name": path.rpartition("/")[2], "Type": "blob", "Size": len(body)}
            entries.append(
                entry | {"Sha256": sha256(body), "Revision": changed, "IsLFS": path.endswith(LARGE)}
            )
        folders = sorted({path.partition("/")[0] for path in repository.files if "/" in path})
        return entries + [{"Path": name, "Name": name, "Type": "tree", "Size": 0} for name in folders]


def _revisions(repository: Repository) -> dict[str, Any]:
    return {
        "RevisionMap": {
            "Branches": [{"Revision": "master", "CreatedAt": 1_700_000_000}],
            "Tags": [{"Revision": name} for name in repository.commits if name.startswith("v")],
        }
    }


def success(data: Any) -> Answer:
    answer = {"Code": 200, "Data": data, "Message": "success", "RequestId": "0", "Success": True}
    return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


def failure(status: int, message: str, code: int = 10_010_205_001) -> Answer:
    answer = {"Code": code, "Data": None, "Message": message, "RequestId": "0", "Success": False}
    return Answer(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

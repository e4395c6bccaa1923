"""The part of the Hugging Face Hub's API by which a model is published.

Large files go to another host, whole or in parts; small ones inside the commit.
"""

import base64
import json
import re
from collections.abc import Mapping
from math import ceil
from typing import Any

from hubs.huggingface import LARGE, HuggingFaceHub
from hubs.repository import Repository, blob_id, sha256
from hubs.server import Answer, Request
from hubs.writing import Account, Books, Storage

WRITE = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/(?P<what>auth-check/write|preupload/main|commit/main)")
BATCH = re.compile(r"/(?P<id>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
ATTRIBUTES = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


class WritableHuggingFaceHub(HuggingFaceHub):
    """part_bytes: size of the parts in which large files are taken; none: whole. refusal: of a commit."""

    def __init__(self, storage: Storage, repositories: Mapping[str, Repository] = {}) -> None:
        super().__init__(repositories)
        self.storage = storage
        self.books = Books(self, {"hf_good": Account()})
        self.part_bytes: int | None = None

    def answer(self, request: Request) -> Answer:
        if request.token and request.token not in self.tokens:
            return Answer(401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
        if request.path == "/api/complete":
            return self.storage.join(request.query["oid"], len(json.loads(request.body)["parts"]))
        if request.path in ("/api/whoami-v2", "/api/repos/create", "/api/validate-yaml"):
            return self._account(request)
        if asked := WRITE.fullmatch(request.path) or BATCH.fullmatch(request.path):
            return self._write(request, asked["id"], asked.groupdict().get("what", "batch"))
        return super().answer(request)

    def _account(self, request: Request) -> Answer:
        account = self.books.account(request)
        if account is None:
            return Answer(401)
        if request.path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": [{"message": f"you sent {request.token}"}]})
        if request.path == "/api/repos/create":
            return self._create(json.loads(request.body), account, request.token)
        organisations = [{"name": name, "roleInOrg": role} for name, role in account.organisations.items()]
        token = {"accessToken": {"displayName": "ci", "role": account.role}, "type": "access_token"}
        return _json({"name": account.name, "type": "user", "orgs": organisations, "auth": token})

    def _create(self, wanted: Mapping[str, Any], account: Account, token: str | None) -> Answer:
        name = f"{wanted['organization']}/{wanted['name']}"
        if f"models/{name}" in self.repositories:
            return Answer(409, b'{"error": "You already created this model repo"}')
        if not account.may_write(wanted["organization"]):
            return Answer(403, b'{"error": "You don\'t have the rights to create a model under it"}')
        self.books.create(f"models/{name}", wanted["visibility"], token, ATTRIBUTES)
        return _json({"url": f"{self.url}/{name}"})

    def _write(self, request: Request, name: str, what: str) -> Answer:
        account = self.books.account(request)
        repository = self.repositories.get(f"models/{name}")
        if repository is None or account is None:
            return Answer(404, headers={"X-Error-Code": "RepoNotFound"})
        if not account.may_write(name.partition("/")[0]):
            return Answer(403, headers={"X-Error-Message": "no right to write"})
        match what:
            case "auth-check/write":
                return Answer(200)
            case "preupload/main":
                return _json(
                    {"files": [_mode(repository, file) for file in json.loads(request.body)["files"]]}
                )
            case "batch":
                return _json({"objects": [self._object(o) for o in json.loads(request.body)["objects"]]})
            case _:
                return self._commit(name, [json.loads(line) for line in request.body.splitlines()])

    def _object(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        oid, size = wanted["oid"], wanted["size"]
        if oid in self.storage.blobs:
            return {"oid": oid, "size": size}
        upload: dict[str, Any] = {"href": f"{self.storage.url}/blob/{oid}?X-Signature=s"}
        if self.part_bytes:
            numbers = range(1, ceil(size / self.part_bytes) + 1)
            parts = {f"{number:05}": f"{self.storage.url}/part/{oid}/{number}" for number in numbers}
            href = f"{self.url}/api/complete?oid={oid}"
            upload = {"href": href, "header": {"chunk_size": str(self.part_bytes), **parts}}
        return {"oid": oid, "size": size, "actions": {"upload": upload}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> Answer:
        add, remove = {}, set()
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                add[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                add[value["path"]] = self.storage.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                remove.add(value["path"])
        commit = self.books.commit(f"models/{name}", lines[0]["value"]["summary"], add, remove)
        return _json({"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit})


def _mode(repository: Repository, file: Mapping[str, Any]) -> dict[str, Any]:
    there = repository.files.get(file["path"])
    large = file["path"].endswith(LARGE)
    oid = None if there is None else sha256(there) if large else blob_id(there)
    mode = "lfs" if large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

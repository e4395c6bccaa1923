"""The part of ModelScope's API by which a model is published.

Large files go to the place that the hub names for their sha256, small ones inside the commit.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from hubs.modelscope import ModelScopeHub, failure, success
from hubs.repository import Repository
from hubs.server import Answer, Request
from hubs.writing import Account, Books, Storage

REPOSITORY = re.compile(r"/api/v1/models/(?P<id>[^/]+/[^/]+)")
WRITE = re.compile(r"/api/v1/repos/models/(?P<id>[^/]+/[^/]+)/(?P<what>info/lfs/objects/batch|commit/master)")
BLOB = re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})")
EXISTS = 10_010_101_001
NEW = {".gitattributes": b"*.safetensors filter=lfs\n", "README.md": b"# new", "configuration.json": b"{}"}
VISIBILITY = {1: "private", 5: "public"}


class WritableModelScopeHub(ModelScopeHub):
    """elsewhere: whether large files are taken by the other host, or by the hub itself."""

    def __init__(self, storage: Storage, repositories: Mapping[str, Repository] = {}) -> None:
        super().__init__(repositories)
        self.storage = storage
        self.elsewhere = True
        self.books = Books(self, {"ms-good": Account()})

    def answer(self, request: Request) -> Answer:
        if request.token and request.token not in self.tokens:
            return failure(401, "token is invalid")
        account = self.books.account(request)
        if request.path == "/openapi/v1/users/me":
            return success({"username": account.name}) if account else failure(401, "no token")
        if request.path == "/api/v1/models":
            return self._create(json.loads(request.body), account, request.token)
        if asked := REPOSITORY.fullmatch(request.path):
            there = f"models/{asked['id']}" in self.repositories
            return success({"Name": asked["id"]}) if there else failure(404, "model does not exist")
        if asked := BLOB.fullmatch(request.path):
            return self.storage.take(asked["oid"], request.body) if account else failure(401, "no token")
        if asked := WRITE.fullmatch(request.path):
            return self._write(request, asked["id"], asked["what"], account)
        return super().answer(request)

    def _create(self, wanted: Mapping[str, Any], account: Account | None, token: str | None) -> Answer:
        key = f"models/{wanted['Path']}/{wanted['Name']}"
        if key in self.repositories:
            return failure(400, "the name is taken", EXISTS)
        if account is None or not account.may_write(wanted["Path"]):
            return failure(403, "no right")
        self.books.create(key, VISIBILITY[wanted["Visibility"]], token, NEW)
        self.books.licences[key] = wanted["License"]
        return success({"Path": wanted["Path"], "Name": wanted["Name"]})

    def _write(self, request: Request, name: str, what: str, account: Account | None) -> Answer:
        if f"models/{name}" not in self.repositories:
            return failure(404, "model does not exist")
        if account is None or not account.may_write(name.partition("/")[0]):
            return failure(403, "no right")
        body = json.loads(request.body)
        if what.endswith("batch"):
            missing = [wanted for wanted in body["objects"] if wanted["oid"] not in self.storage.blobs]
            return success({"objects": [self._object(wanted["oid"]) for wanted in missing]})
        actions = {action["path"]: action for action in body["actions"]}
        add = {path: self._content(a) for path, a in actions.items() if a["action"] == "create"}
        commit = self.books.commit(
            f"models/{name}", body["commit_message"], add, set(actions.keys() - add.keys())
        )
        self.changed = set(add)
        return success({"commit": commit})

    def _object(self, oid: str) -> dict[str, Any]:
        place = f"{self.storage.url}/blob/{oid}" if self.elsewhere else f"{self.url}/lfs/{oid}"
        return {"oid": oid, "actions": {"upload": {"href": place}}}

    def _content(self, action: Mapping[str, Any]) -> bytes:
        if action["type"] == "lfs":
            return self.storage.blobs[action["sha256"]]
        return base64.b64decode(action["content"])

"""What hubs that are written to have in common: accounts, commits, and a store of large files by sha256."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hubs.repository import Hub, Repository, sha256
from hubs.server import Answer, Request, Server


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to. organisations: roles by name. role: what the token itself may do."""

    name: str = "team"
    organisations: Mapping[str, str] = field(default_factory=dict)
    role: str = "write"

    def may_write(self, owner: str) -> bool:
        roles = {self.name: "admin", **self.organisations}
        return self.role == "write" and roles.get(owner, "read") != "read"


class Storage(Server):
    """Another host that takes large files. blobs: by sha256."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.url = self.url.replace("127.0.0.1", "localhost")

    def answer(self, request: Request) -> Answer:
        kind, _, name = request.path.strip("/").partition("/")
        if kind == "part":
            self.parts[name] = request.body
            return Answer(200, headers={"ETag": f'"{sha256(request.body)}"'})
        return self.take(name, request.body)

    def take(self, name: str, body: bytes) -> Answer:
        if sha256(body) != name:
            return Answer(400)
        self.blobs[name] = body
        return Answer(200)

    def join(self, name: str, count: int) -> Answer:
        """Makes one file of its parts."""
        return self.take(name, b"".join(self.parts[f"{name}/{number}"] for number in range(1, count + 1)))


class Books:
    """What was written to a hub. accounts: by token. visibility, commits: by repository."""

    def __init__(self, hub: Hub, accounts: Mapping[str, Account]) -> None:
        self._hub = hub
        self.accounts = dict(accounts)
        self.visibility: dict[str, str] = {}
        self.licences: dict[str, str] = {}
        self.commits: dict[str, list[str]] = {}
        hub.tokens |= set(accounts)

    def account(self, request: Request) -> Account | None:
        return self.accounts.get(request.token or "")

    def create(self, key: str, visibility: str, token: str | None, files: Mapping[str, bytes]) -> None:
        self.visibility[key] = visibility
        self._hub.repositories[key] = Repository(
            files, dict.fromkeys(("main", "master"), "0" * 40), token if visibility == "private" else None
        )

    def commit(self, key: str, message: str, add: Mapping[str, bytes], remove: set[str]) -> str:
        """The id of the new commit."""
        before = self._hub.repositories[key]
        made = self.commits.setdefault(key, [])
        made.append(message)
        commit = hashlib.sha1(f"{key} {len(made)}".encode(), usedforsecurity=False).hexdigest()
        files = {path: body for path, body in before.files.items() if path not in remove} | dict(add)
        heads = {**before.commits, "main": commit, "master": commit}
        self._hub.repositories[key] = replace(before, files=files, commits=heads)
        return commit

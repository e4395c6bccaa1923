"""`modelscope://OWNER/NAME`: repositories of ModelScope, or of a mirror that speaks its API.

Its endpoints are called directly: those that read here, those that write in `modelscope_target`. Measured
against the clients on PyPI: `modelscope` imports torch to read a listing (3 s, 500 MB); `modelscope-hub`
unpickles and writes files in the home directory, drops the commit from its listings, probes servers for
the nearest region, and downloads to files alone. A test holds the local server of the tests, and so this
module, against `modelscope-hub`.

The hub has no endpoint that resolves a branch. A listing carries the short id of its commit, and for
every file the full id of the commit that changed it last: that of the newest file is the commit,
unless the last commit only removed something. Then a digest of the listing stands for it.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Final, Generic, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_pascal

from lorafinetune.contract.keys import digest
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import MAX_FILES, Pause, RemoteFile, Snapshot
from lorafinetune_stages.hubs.http import Http
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.refusals import Refusals
from lorafinetune_stages.hubs.retry import retry

DEFAULT_REVISION: Final = "master"
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
PAGE_SIZE: Final = 200

Data = TypeVar("Data")


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class _Answer(_Wire, Generic[Data]):
    data: Data | None = None
    """None where the hub reports a failure."""


class _File(_Wire):
    path: str
    type: str = "blob"
    size: int | None = None
    sha256: str | None = None
    revision: str | None = None
    """The commit that changed it last."""


class _Committer(_Wire):
    id: str | None = None
    short_id: str | None = None


class _Listing(_Wire):
    files: tuple[_File, ...] | None = None
    latest_committer: _Committer | None = None


class _Reference(_Wire):
    revision: str


class _References(_Wire):
    branches: tuple[_Reference, ...] | None = None
    tags: tuple[_Reference, ...] | None = None


class _Revisions(_Wire):
    revision_map: _References


class ModelScopeSource:
    """A repository of models, of which only the top level is listed unless `recursive`, or of datasets."""

    def __init__(self, origin: Origin, pause: Pause, recursive: bool = False) -> None:
        token = origin.token()
        page = f"{origin.endpoint}/{origin.kind}/{origin.repository}"
        self._origin = origin
        self._pause = pause
        self._recursive = str(recursive)
        self._api = f"{origin.endpoint}/api/v1/{origin.kind}/{origin.repository}"
        self._refusals = Refusals(origin, page, token is not None)
        self._http = Http(origin, headers(token), self._explain)
        self._revision = origin.revision or DEFAULT_REVISION

    def close(self) -> None:
        self._http.close()

    def snapshot(self) -> Snapshot:
        head, entries = retry(self._list, self._pause)
        commit = self._commit(head, entries)
        if COMMIT.fullmatch(commit):
            self._revision = commit
        return Snapshot(commit, tuple(_remote(entry) for entry in entries if entry.type == "blob"))

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        params = {"Revision": self._revision, "FilePath": file.path}
        return self._http.stream(f"{self._api}/repo", file, offset, params)

    def _commit(self, head: _Committer | None, entries: list[_File]) -> str:
        if COMMIT.fullmatch(self._revision):
            return self._revision
        named = (head.id or head.short_id or "") if head else ""
        changes = {entry.revision or "" for entry in entries} | {named}
        found = [commit for commit in changes if COMMIT.fullmatch(commit) and commit.startswith(named)]
        if named and len(found) == 1:
            return found[0]
        return digest(sorted((entry.path, entry.size, entry.sha256, entry.revision) for entry in entries))

    def _list(self) -> tuple[_Committer | None, list[_File]]:
        if self._origin.kind == "models":
            listing = self._listing("repo/files", {"Recursive": self._recursive})
            return listing.latest_committer, list(listing.files or ())
        entries: list[_File] = []
        for page in count(1):
            paging: dict[str, str | int] = {"Recursive": "True", "PageNumber": page, "PageSize": PAGE_SIZE}
            listing = self._listing("repo/tree", paging)
            found = listing.files or ()
            entries += found
            if len(found) > PAGE_SIZE:
                raise self._http.too_much()
            if len(entries) > MAX_FILES:
                raise self._origin.too_many_files()
            if len(found) < PAGE_SIZE:
                break
        return listing.latest_committer, entries

    def _listing(self, path: str, params: Mapping[str, str | int]) -> _Listing:
        listing = self._get(path, {"Revision": self._revision, **params}, _Answer[_Listing])
        if listing is None or listing.files is None:  # this is how the hub says that there is none
            raise self._no_listing()
        return listing

    def _no_listing(self) -> StageError:
        """Which of the two does not exist, the revision or the repository."""
        revisions = self._get("revisions", {}, _Answer[_Revisions])
        if revisions is None:
            return self._refusals.no_repository()
        references = revisions.revision_map
        known = [reference.revision for reference in (*(references.branches or ()), *(references.tags or ()))]
        return self._refusals.no_revision(self._revision, known)

    def _get(self, path: str, params: Mapping[str, str | int], shape: type[_Answer[Data]]) -> Data | None:
        """The data of an answer, or None where the hub reports a failure in place of it."""
        try:
            return shape.model_validate_json(self._http.get(f"{self._api}/{path}", params)).data
        except ValidationError as problem:
            raise self._http.unavailable("answers with something else than a repository") from problem

    def _explain(self, answer: httpx.Response) -> StageError:
        path = answer.url.path
        if answer.status_code == 404 and not path.endswith("/revisions"):
            return self._refusals.no_file() if path.endswith("/repo") else self._no_listing()
        return self._refusals.by_status(answer.status_code)


def headers(token: str | None) -> dict[str, str]:
    """Older endpoints take the token from the cookie, newer ones from the other header."""
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}


def _remote(entry: _File) -> RemoteFile:
    sha256 = (entry.sha256 or "").lower()
    return RemoteFile(entry.path, entry.size or 0, sha256 if SHA256.fullmatch(sha256) else None)

"""`modelscope://OWNER/NAME` as a target: the endpoints that ModelScope's own client writes with.

Large files go to the LFS store by their sha256, small ones inside the commit. Why the client itself is not
used is said in `hubs.modelscope`; a test holds what is sent here against what the client sends.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import PurePosixPath
from typing import Any, Final, Literal

import httpx
from pydantic import BaseModel, ValidationError

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import Change, Pause, Snapshot, TransientError
from lorafinetune_stages.hubs.content import Content
from lorafinetune_stages.hubs.http import Http, beginning
from lorafinetune_stages.hubs.modelscope import DEFAULT_REVISION, ModelScopeSource, headers
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.refusals import WriteRefusals
from lorafinetune_stages.hubs.retry import retry
from lorafinetune_stages.store.streams import CHUNK_BYTES

VISIBILITY: Final = {"private": 1, "public": 5}
INLINE_NAMES: Final = frozenset({"README.md", ".gitattributes", "configuration.json", "config.json"})
"""Files that the hub reads itself, which it does not by way of LFS."""
LFS_SUFFIXES: Final = frozenset({".safetensors", ".model"})
MAX_INLINE_BYTES: Final = 64 * 2**10
EXISTS: Final = frozenset({10_010_101_001, 10_010_202_004})
"""The hub's codes for a name that is taken, on its two sites."""
CONFLICT: Final = 10_030_000_001
"""The hub's code for a commit that came between."""
FULL: Final = "QuotaLimitExceed"


class _Action(BaseModel):
    href: str


class _Actions(BaseModel):
    upload: _Action | None = None


class _Object(BaseModel):
    oid: str
    actions: _Actions = _Actions()


class _Batch(BaseModel):
    objects: tuple[_Object, ...]


class _ExistsError(Exception):
    """The repository is there already."""


class ModelScopeTarget:
    """A repository of a model."""

    def __init__(self, origin: Origin, pause: Pause) -> None:
        self._origin = origin
        self._pause = pause
        self._api = f"{origin.endpoint}/api/v1"
        self._refusals = WriteRefusals(origin)
        self._http = Http(origin, headers(origin.required_token()), self._explain)

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """There is nothing to set up."""
        yield

    def check(self) -> None:
        """The hub tells whose the token is, but not what it may write."""
        url = f"{self._origin.endpoint}/openapi/v1/users/me"
        try:
            retry(lambda: self._http.get(url, {}), self._pause)
        except StageError as problem:
            if problem.reason is not self._origin.missing:  # a mirror may lack the endpoint
                raise

    def snapshot(self) -> Snapshot | None:
        try:
            retry(lambda: self._http.get(f"{self._api}/models/{self._origin.repository}", {}), self._pause)
        except StageError as problem:
            if problem.reason is self._origin.missing:
                return None
            raise
        try:
            with closing(ModelScopeSource(self._origin, self._pause, recursive=True)) as source:
                return source.snapshot()
        except StageError as problem:
            if problem.reason is self._origin.missing:  # a new repository may have no branch yet
                return Snapshot("", ())
            raise

    def create(self, visibility: Literal["private", "public"], licence: str) -> None:
        owner, name = self._origin.repository.split("/")
        body = {"Path": owner, "Name": name, "Visibility": VISIBILITY[visibility], "License": licence}
        try:
            self._http.post(f"{self._api}/models", body)
        except _ExistsError:
            return
        except StageError as problem:
            if problem.reason is self._origin.missing:
                raise self._refusals.no_owner() from problem
            raise

    def upload(self, content: Content) -> None:
        if not _is_lfs(content):
            return
        if url := self._upload_url(content):
            content.seek(0)
            self._http.put(url, iter(lambda: content.read(CHUNK_BYTES), b""), content.file.size)

    def commit(self, change: Change) -> None:
        actions = [*map(_create, change.add), *map(_delete, change.remove)]
        body = {"commit_message": change.message, "actions": actions}
        answer = self._http.post(f"{self._repository}/commit/{DEFAULT_REVISION}", body)
        if _decoded(answer).get("Success") is False:
            raise self._refusals.refused()

    @property
    def _repository(self) -> str:
        return f"{self._api}/repos/models/{self._origin.repository}"

    def _upload_url(self, content: Content) -> str | None:
        """Where the file is to be sent, or None where the hub has it."""
        wanted = {"oid": content.file.sha256, "size": content.file.size}
        body = {"operation": "upload", "objects": [wanted]}
        answer = _decoded(self._http.post(f"{self._repository}/info/lfs/objects/batch", body))
        try:
            objects = _Batch.model_validate(answer.get("Data", answer)).objects
        except ValidationError as problem:
            raise self._http.unavailable("answers with something else than where to send a file") from problem
        found = next((one.actions.upload for one in objects if one.oid == content.file.sha256), None)
        return found.href if found else None

    def _explain(self, answer: httpx.Response) -> StageError:
        said = _decoded(beginning(answer))
        match said.get("Code", said.get("code")):
            case int(code) if code in EXISTS:
                raise _ExistsError
            case int(code) if code == CONFLICT:
                raise TransientError(self._http.unavailable("has another commit under way"))
            case str(code) if code == FULL:
                return self._refusals.full()
            case _:
                return self._refusals.by_status(answer.status_code)


def _is_lfs(content: Content) -> bool:
    path = PurePosixPath(content.file.path)
    if path.name in INLINE_NAMES or not content.file.size:
        return False
    return content.file.size > MAX_INLINE_BYTES or path.suffix in LFS_SUFFIXES


def _create(content: Content) -> dict[str, Any]:
    action = {"action": "create", "path": content.file.path, "size": content.file.size}
    if _is_lfs(content):
        return action | {"type": "lfs", "sha256": content.file.sha256, "content": "", "encoding": ""}
    content.seek(0)
    inline = base64.b64encode(content.read()).decode()
    return action | {"type": "normal", "sha256": "", "content": inline, "encoding": "base64"}


def _delete(path: str) -> dict[str, Any]:
    empty = dict.fromkeys(("sha256", "content", "encoding"), "")
    return {"action": "delete", "path": path, "type": "normal", "size": 0, **empty}


def _decoded(answer: bytes) -> dict[str, Any]:
    """The JSON object in an answer; an empty one for anything else."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

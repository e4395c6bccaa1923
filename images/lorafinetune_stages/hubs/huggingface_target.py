"""`hf://OWNER/NAME` as a target: the hub's own client, with connections and refusals of ours.

The client sends a stream by the LFS protocol; by its newer protocol it sends only files of a disk, and by
connections of its own. What it says of an answer never reaches a person: the server could have put the
token into it.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, Literal, TypeVar, cast

import httpx
import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, constants, errors
from huggingface_hub.lfs import UploadInfo
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but unmarked

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import Change, Pause, Snapshot, TransientError
from lorafinetune_stages.hubs.content import Content
from lorafinetune_stages.hubs.http import Http, beginning
from lorafinetune_stages.hubs.huggingface import LIBRARY, HuggingFaceSource, own_connections
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.refusals import WriteRefusals
from lorafinetune_stages.hubs.retry import retry

SAMPLE_BYTES: Final = 512
"""Beginning of a file by which the hub tells text from binary."""
READ_ONLY: Final = "read"
FULL: Final = b"storage limit"
"""The hub's words for a full quota, which comes as 403."""

constants.HF_HUB_DISABLE_XET = True
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs signed URLs, which are credentials

Done = TypeVar("Done")


class _Client(httpx.Client):
    """Raises for a failure before the hub's client sees it: that would wait, log and quote in its own way."""

    http: Http

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        if request.method == "PUT":
            options["follow_redirects"] = False  # the stream could not be sent again
        with self.http.failures():
            answer = super().send(request, **options)
            if answer.is_error or answer.is_redirect:
                self.http.check(answer)
            return answer


class HuggingFaceTarget:
    """A repository of a model."""

    def __init__(self, origin: Origin, pause: Pause) -> None:
        token = origin.required_token()
        self._origin = origin
        self._pause = pause
        self._refusals = WriteRefusals(origin)
        self._source = HuggingFaceSource(origin, pause)
        self._api = huggingface_hub.HfApi(origin.endpoint, token=token, library_name=LIBRARY)
        self._http = Http(origin, {}, self._explain)
        self._call(lambda: validate_repo_id(origin.repository))
        self._operations: dict[str, CommitOperationAdd] = {}

    def close(self) -> None:
        self._source.close()
        self._http.close()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Methods that write are to be called inside."""
        with own_connections(self._new_client), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client warns with the server's words
            yield

    def check(self) -> None:
        with self.connected():
            try:
                retry(self._may_write, self._pause)
            except StageError as problem:
                if problem.reason is not self._origin.missing:
                    raise
                retry(self._may_create, self._pause)

    def snapshot(self) -> Snapshot | None:
        try:
            return self._source.snapshot()
        except StageError as problem:
            if problem.reason is self._origin.missing:
                return None
            raise

    def create(self, visibility: Literal["private", "public"], licence: str) -> None:
        """The hub reads the licence from the card."""
        try:
            self._call(lambda: self._api.create_repo(self._origin.repository, visibility=visibility))
        except StageError as problem:
            if problem.reason is self._origin.missing:
                raise self._refusals.no_owner() from problem
            raise

    def upload(self, content: Content) -> None:
        operation = _addition(content)
        content.seek(0)
        self._call(
            lambda: self._api.preupload_lfs_files(
                self._origin.repository, [operation], free_memory=False, gitignore_content=""
            )
        )
        self._operations[content.file.path] = operation

    def commit(self, change: Change) -> None:
        added = [_reading(self._operations[content.file.path], content) for content in change.add]
        removed = [CommitOperationDelete(path, is_folder=False) for path in change.remove]
        self._call(
            lambda: self._api.create_commit(
                self._origin.repository, [*added, *removed], commit_message=change.message
            )
        )

    def _may_write(self) -> None:
        self._call(lambda: self._api.auth_check(self._origin.repository, write=True))

    def _may_create(self) -> None:
        role = self._call(lambda: _role(self._api.whoami(), self._origin.owner))
        if role is None:
            raise self._refusals.no_owner()
        if role == READ_ONLY:
            raise self._refusals.no_right()

    def _call(self, call: Callable[[], Done]) -> Done:
        """A call of the hub's client, which wraps some failures in others."""
        try:
            return call()
        except errors.HFValidationError as problem:
            raise self._refusals.refused() from problem
        except RuntimeError as problem:
            if isinstance(problem.__cause__, StageError | TransientError):
                raise problem.__cause__ from None
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
            raise self._http.unavailable("answers with something else than it was asked for") from problem

    def _new_client(self) -> httpx.Client:
        client = self._http.new_client(_Client)
        client.http = self._http
        return client

    def _explain(self, answer: httpx.Response) -> StageError:
        if answer.status_code == httpx.codes.FORBIDDEN and FULL in beginning(answer).lower():
            return self._refusals.full()
        return self._refusals.by_status(answer.status_code)


def _addition(content: Content) -> CommitOperationAdd:
    """Adds a file whose sha256 is known, so that it is not read twice."""
    with content.again() as stream:
        sample = stream.read(SAMPLE_BYTES)
    operation = _reading(CommitOperationAdd(content.file.path, b""), content)
    operation.upload_info = UploadInfo(content.file.size, sample, bytes.fromhex(content.file.sha256))
    return operation


def _reading(operation: CommitOperationAdd, content: Content) -> CommitOperationAdd:
    operation.path_or_fileobj = cast(BinaryIO, content)
    return operation


def _role(account: Any, owner: str) -> str | None:
    """What a token may do in the name of an owner; None where it can't act in that name."""
    if account["auth"].get("accessToken", {}).get("role") == READ_ONLY:
        return READ_ONLY
    if account["name"] == owner:
        return "write"
    roles = [one.get("roleInOrg", "write") for one in account.get("orgs", ()) if one["name"] == owner]
    return str(roles[0]) if roles else None

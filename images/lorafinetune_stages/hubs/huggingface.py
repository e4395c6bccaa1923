"""`hf://OWNER/NAME`: repositories of the Hugging Face Hub, or of a mirror that speaks its API.

The hub's own client resolves the revision, lists the files and tells refusals apart. It is kept from
reading the machine's own token and from telemetry.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # public, but unmarked
from huggingface_hub.utils._http import default_client_factory

from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import Pause, RemoteFile, Snapshot
from lorafinetune_stages.hubs.http import Http
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.refusals import Refusals
from lorafinetune_stages.hubs.retry import retry

REPO_TYPES: Final = {"models": "model", "datasets": "dataset"}
PAGES: Final = {"models": "", "datasets": "datasets/"}
COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
API_TIMEOUT_SECONDS: Final = 30.0
LIBRARY: Final = "lorafinetune"

constants.HF_HUB_DISABLE_TELEMETRY = True


class HuggingFaceSource:
    """A repository of models or datasets."""

    def __init__(self, origin: Origin, pause: Pause) -> None:
        token = origin.token()
        page = f"{origin.endpoint}/{PAGES[origin.kind]}{origin.repository}"
        self._origin = origin
        self._pause = pause
        self._type = REPO_TYPES[origin.kind]
        self._refusals = Refusals(origin, page, token is not None)
        self._api = huggingface_hub.HfApi(origin.endpoint, token=token or False, library_name=LIBRARY)
        self._http = Http(origin, {"Authorization": f"Bearer {token}"} if token else {}, self._explain)
        self._commit = ""

    def close(self) -> None:
        self._http.close()

    def snapshot(self) -> Snapshot:
        with own_connections(self._http.new_client):
            snapshot = retry(self._snapshot, self._pause)
        self._commit = snapshot.revision
        return snapshot

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        url = huggingface_hub.hf_hub_url(
            self._origin.repository,
            file.path,
            repo_type=self._type,
            revision=self._commit,
            endpoint=self._origin.endpoint,
        )
        return self._http.stream(url, file, offset)

    def _snapshot(self) -> Snapshot:
        try:
            with self._http.failures():
                return _decode(self._info())
        except errors.HfHubHTTPError as problem:
            self._http.check(problem.response)
            raise
        except errors.HFValidationError as problem:
            raise self._refusals.no_repository() from problem
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
            raise self._http.unavailable("answers with something else than a repository") from problem

    def _info(self) -> Any:
        return self._api.repo_info(
            self._origin.repository,
            revision=self._origin.revision,
            repo_type=self._type,
            timeout=API_TIMEOUT_SECONDS,
            files_metadata=True,
        )

    def _explain(self, answer: httpx.Response) -> StageError:
        try:
            hf_raise_for_status(answer)
        except errors.GatedRepoError:
            return self._refusals.gated()
        except errors.RevisionNotFoundError:
            return self._refusals.no_revision(self._origin.revision or "main")
        except errors.EntryNotFoundError:
            return self._refusals.no_file()
        except (errors.RepositoryNotFoundError, errors.DisabledRepoError):
            return self._refusals.no_repository()
        except errors.HfHubHTTPError:
            return self._refusals.by_status(answer.status_code)
        return self._refusals.by_status(answer.status_code)


@contextmanager
def own_connections(factory: Callable[[], httpx.Client]) -> Iterator[None]:
    """Has the hub's client speak through connections of ours, for so long: whoever calls it otherwise finds
    it as the machine has set it up, which may be offline."""
    huggingface_hub.set_client_factory(factory)
    try:
        yield
    finally:
        huggingface_hub.set_client_factory(default_client_factory)


def _decode(info: Any) -> Snapshot:
    """The snapshot in an answer that may be anything. Raises ValueError, TypeError or AttributeError."""
    if not COMMIT.fullmatch(info.sha):
        raise ValueError("no commit")
    return Snapshot(info.sha, tuple(map(_file, info.siblings)))


def _file(sibling: Any) -> RemoteFile:
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    if not isinstance(sibling.rfilename, str) or not isinstance(sibling.size, int):
        raise TypeError("no size")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise ValueError("no sha256")
    blob = sibling.blob_id if sha256 is None else None
    return RemoteFile(sibling.rfilename, sibling.size, sha256, blob)

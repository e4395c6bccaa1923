"""`https://HOST/PATH`: one file of a host that the installation allows, which everybody may read.

A web server has no commits. The file's ETag or, without one, the time of its last change stands for one. If
the server tells neither, the digest of the content does, for which the file is read once more.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.https import HttpsSources
from lorafinetune.contract.keys import digest
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import Pause, RemoteFile, Snapshot
from lorafinetune_stages.hubs.guard import HttpsGuard
from lorafinetune_stages.hubs.http import Http, tls
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.pinned_transport import PinnedTransport, within
from lorafinetune_stages.hubs.retry import resumed, retry

MAX_LENGTH_DIGITS: Final = 15
ELSEWHERE: Final = "Copy the file to S3 or to a hub, and name it there."


class HttpsSource:
    """The file at one address."""

    def __init__(self, origin: Origin, allowed: HttpsSources, pause: Pause) -> None:
        self._origin = origin
        self._pause = pause
        only = None if allowed.unrestricted else within(origin, allowed)
        transport = PinnedTransport(only, tls(allowed.certificates)) if only else None
        self._http = Http(origin, {}, self._explain, HttpsGuard(origin, allowed), transport)
        self._version = ""

    def close(self) -> None:
        self._http.close()

    def snapshot(self) -> Snapshot:
        file = retry(self._describe, self._pause)
        if not self._version:
            file = replace(file, sha256=self._content_digest(file))
        return Snapshot(digest([file.size, self._version or file.sha256]), (file,), single=True)

    def stream(self, file: RemoteFile, offset: int = 0) -> Iterator[bytes]:
        return self._http.stream(self._origin.source, file, offset, confirm=self._confirm)

    def _describe(self) -> RemoteFile:
        headers = self._http.headers(self._origin.source)
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            hint = "Name the address of the file itself: where the page's link `Raw` or `Download` leads to."
            raise self._origin.error(self._origin.unusable, "is a web page, and no file of rows", hint)
        if headers.get("Content-Encoding", "identity") != "identity":
            raise self._origin.error(
                self._origin.unusable, "is sent compressed, though nobody asks for it", ELSEWHERE
            )
        length = headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > MAX_LENGTH_DIGITS:
            what = "is sent without its length, so that nobody could tell whether all of it came"
            raise self._origin.error(self._origin.unusable, what, ELSEWHERE)
        self._version = _version(headers)
        return RemoteFile(unquote(self._origin.path.rpartition("/")[2]), int(length))

    def _content_digest(self, file: RemoteFile) -> str:
        sha256 = hashlib.sha256()
        for chunk in resumed(self._origin, self, file, self._pause):
            sha256.update(chunk)
        return sha256.hexdigest()

    def _confirm(self, headers: httpx.Headers) -> None:
        """Raises StageError(ArtifactCorrupt) for a part of another version than that which is copied."""
        if _version(headers) != self._version:
            raise self._origin.corrupt("was written to while it was copied")

    def _explain(self, answer: httpx.Response) -> StageError:
        answers = f"{self._origin.host} answers {answer.status_code}"
        match answer.status_code:
            case 401 | 403:
                what = f"{self._origin.failed}: {answers}, and it is fetched without credentials"
                hint = f"Let everybody read the file. Else: {ELSEWHERE[0].lower()}{ELSEWHERE[1:]}"
                return self._origin.error(Reason.CREDENTIALS_INVALID, what, hint)
            case 404 | 410:
                hint = f"Check `{self._origin.field}.source`."
                return self._origin.error(self._origin.missing, f"does not exist: {answers}", hint)
            case _:
                return self._origin.error(Reason.HUB_UNAVAILABLE, f"{self._origin.failed}: {answers}")


def _version(headers: httpx.Headers) -> str:
    return str(headers.get("ETag") or headers.get("Last-Modified") or "")

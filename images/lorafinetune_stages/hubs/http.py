"""One HTTP client for all hubs: timeouts, redirects, ranges, and what a failure means.

The clients of the hubs write files into a cache of their own, or read them from a disk. Here files stream to
and from the store. So a hub's client makes API calls at most, and makes them through the connections of this
module.
"""

import json
import logging
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, TypeVar

import httpx

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs import RemoteFile, TransientError
from lorafinetune_stages.hubs.guard import RedirectGuard
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.pinned_transport import pinned

TIMEOUT: Final = httpx.Timeout(30, connect=10)
USER_AGENT: Final = "lorafinetune"
JSON: Final = {"Content-Type": "application/json"}
MAX_REDIRECTS: Final = 5
MAX_ANSWER_BYTES: Final = 64 * 2**20
"""Largest answer of an API."""
MAX_REFUSAL_BYTES: Final = 2**16
"""What is read of an answer that refuses something."""
TRANSIENT_STATUSES: Final = frozenset({408, 412, 425, 429, 500, 502, 503, 504})
"""412: a commit came between."""
FULL_STATUSES: Final = frozenset({402, 413, 507})
GIVEN: Final = frozenset({200, 206})
TAKEN: Final = frozenset({200, 201, 202, 204})
CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19})")
RATE_LIMIT: Final = re.compile(r"r=0;\s*t=([0-9]{1,6})")
"""The window's reset in seconds, as the draft of the `RateLimit` header has it."""

Client = TypeVar("Client", bound=httpx.Client)
Explain = Callable[[httpx.Response], StageError]
"""What a refusal means, in the hub's own dialect."""
Confirm = Callable[[httpx.Headers], None]
"""Raises where an answer is no part of the file that was listed."""

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and signed URLs are credentials


class Http:
    """One hub over HTTP. headers: sent with every request; `Authorization` and `Cookie` don't follow a
    redirect to another host. guard: looks at every request. transport: makes the connections;
    without, they go to the addresses that the guard has looked at."""

    def __init__(
        self,
        origin: Origin,
        headers: Mapping[str, str],
        explain: Explain,
        guard: RedirectGuard | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._origin = origin
        self._guard = guard or RedirectGuard(origin)
        self._transport = transport
        self._headers = {**headers, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        self._explain = explain
        self._client: httpx.Client = self.new_client(files=True)

    def close(self) -> None:
        self._client.close()

    def new_client(self, kind: type[Client] = httpx.Client, files: bool = False) -> Client:  # type: ignore[assignment]  # a type variable takes no default
        """A client with our timeouts and our rules for redirects, without credentials. files: whoever
        calls it reads what is given raw, and counts it; else every answer is bounded."""
        return kind(
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            timeout=TIMEOUT,
            verify=tls(),
            transport=self._transport or pinned(self._guard.check, tls()),
            headers={"Accept-Encoding": "identity"},
            event_hooks={
                "request": [self._guard],
                "response": [self._bound_refusal if files else self._bound],
            },
        )

    def _bound_refusal(self, answer: httpx.Response) -> None:
        if answer.status_code not in GIVEN:
            self._bound(answer)

    def _bound(self, answer: httpx.Response) -> None:
        """Has whoever reads the answer whole stop in time: a kilobyte can unpack to a gigabyte."""
        if answer.headers.get("Content-Encoding", "") not in ("", "identity"):
            raise self.unavailable("sends a compressed answer, though nobody asks for it")
        if isinstance(answer.stream, httpx.SyncByteStream):
            answer.stream = _Bounded(answer.stream, self.too_much)

    def too_much(self) -> StageError:
        return self.unavailable("answers with more than any listing needs")

    def get(self, url: str, params: Mapping[str, str | int]) -> bytes:
        """A small answer whole. Raises TransientError, or StageError for a refusal."""
        with self.failures(), self._client.stream("GET", url, params=params, headers=self._headers) as answer:
            self.check(answer)
            return self._whole(answer)

    def _whole(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        for chunk in answer.iter_raw():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise self.too_much()
        return bytes(body)

    def post(self, url: str, body: Any) -> bytes:
        """Sends JSON, and returns the beginning of the answer. Raises TransientError, or StageError for a
        refusal."""
        return self._send("POST", url, json.dumps(body).encode(), self._headers | JSON)

    def ask(self, url: str, body: Any) -> bytes:
        """As `post`, for an answer that is needed whole."""
        content, headers = json.dumps(body).encode(), self._headers | JSON
        with self.failures(), self._client.stream("POST", url, content=content, headers=headers) as answer:
            self.check(answer)
            return self._whole(answer)

    def put(self, url: str, content: Iterable[bytes], size: int) -> None:
        """Sends a stream of `size` bytes, and follows no redirect: it could not be sent again. Raises
        TransientError, or StageError for a refusal."""
        self._send("PUT", url, content, {**self._headers, "Content-Length": str(size)})

    def _send(
        self, method: str, url: str, content: bytes | Iterable[bytes], headers: dict[str, str]
    ) -> bytes:
        follow = isinstance(content, bytes)
        with (
            self.failures(),
            self._client.stream(
                method, url, content=content, headers=headers, follow_redirects=follow
            ) as answer,
        ):
            self.check(answer, TAKEN)
            return beginning(answer)

    def headers(self, url: str) -> httpx.Headers:
        """What is said of a file that would be sent. Not by HEAD: a signed address is good for GET alone."""
        with self.failures(), self._client.stream("GET", url, headers=self._headers) as answer:
            self.check(answer)
            return answer.headers

    def stream(
        self,
        url: str,
        file: RemoteFile,
        offset: int,
        params: Mapping[str, str] | None = None,
        confirm: Confirm = lambda _headers: None,
    ) -> Iterator[bytes]:
        """The content of a file from `offset` on, as it comes in."""
        headers = self._headers | ({"Range": f"bytes={offset}-"} if offset else {})
        with self.failures(), self._client.stream("GET", url, params=params, headers=headers) as answer:
            self.check(answer)
            confirm(answer.headers)
            skip = offset - self._start(answer, file, offset)
            for chunk in answer.iter_raw():
                if len(chunk) > skip:
                    yield chunk[skip:]
                skip = max(skip - len(chunk), 0)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turns a failed connection into a TransientError."""
        try:
            yield
        except httpx.TooManyRedirects as problem:
            raise self.unavailable("redirects in a circle") from problem
        except httpx.InvalidURL as problem:
            raise self.unavailable("redirects to something else than an address") from problem
        except httpx.RemoteProtocolError as problem:  # what follows the colon is what the server has said
            what = f"can't be reached: {str(problem).partition(':')[0]}"
            raise TransientError(self.unavailable(what)) from problem
        except httpx.TransportError as problem:
            raise TransientError(self.unavailable(f"can't be reached: {problem}")) from problem

    def check(self, answer: httpx.Response, good: frozenset[int] = GIVEN) -> None:
        """Raises TransientError or StageError where the answer is not the thing that was asked for."""
        status = answer.status_code
        if status in good:
            return
        foreign = answer.url.netloc != self._guard.endpoint.netloc and status not in FULL_STATUSES
        if status in TRANSIENT_STATUSES or foreign:
            error = self.unavailable(f"answers {status}", answer.url.netloc.decode() if foreign else "")
            raise TransientError(error, _wait_asked_for(answer.headers))
        raise self._explain(answer)

    def unavailable(self, what: str, host: str = "") -> StageError:
        return self._origin.error(
            Reason.HUB_UNAVAILABLE, f"{self._origin.failed}: {host or self._origin.host} {what}"
        )

    def _start(self, answer: httpx.Response, file: RemoteFile, offset: int) -> int:
        """Where the answer's first byte stands in the file: at its start where ranges are ignored."""
        if answer.status_code == 200:
            start, total = 0, answer.headers.get("Content-Length", str(file.size))
        else:
            found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            start, total = (int(found[1]), found[2]) if found else (-1, "something else")
        if total != str(file.size):
            raise self._origin.corrupt(f"has {file.size} bytes in {file.path}, and sends {total}")
        if start > offset:
            raise self._origin.corrupt(f"sends {file.path} from byte {start} on, not from {offset}")
        return start


class _Bounded(httpx.SyncByteStream):
    """The bytes of an answer, as long as they are not too many."""

    def __init__(self, stream: httpx.SyncByteStream, too_much: Callable[[], StageError]) -> None:
        self._stream = stream
        self._too_much = too_much

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._stream:
            seen += len(chunk)
            if seen > MAX_ANSWER_BYTES:
                raise self._too_much()
            yield chunk

    def close(self) -> None:
        self._stream.close()


@cache
def tls(more: str = "") -> ssl.SSLContext:
    """The machine's certificates, which take longer to read than a request does, and more of them as PEM."""
    context = httpx.create_ssl_context()
    if more:
        context.load_verify_locations(cadata=more)
    return context


def beginning(answer: httpx.Response) -> bytes:
    """The first bytes of an answer, as many as any short one has."""
    body = bytearray()
    with suppress(httpx.RequestError):
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) >= MAX_REFUSAL_BYTES:
                break
    return bytes(body)


def _wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to be left alone."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    if limit := RATE_LIMIT.search(headers.get("RateLimit", "")):
        return float(limit[1]) + 1
    try:
        return max((parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds(), 0)
    except (ValueError, TypeError, OverflowError):
        return None

"""Posts a stage's progress to the operator, from a thread of its own.

Nobody waits for it, and nothing depends on it: while the operator is away, a stage goes on as usual, and only
what a person sees gets older. So every failure ends here.
"""

import http.client
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lorafinetune.contract.arguments import (
    PROGRESS_CA_VARIABLE,
    PROGRESS_TOKEN_VARIABLE,
    PROGRESS_URL_VARIABLE,
)
from lorafinetune.contract.outcome import Progress

log = logging.getLogger("lorafinetune")

TIMEOUT_SECONDS: Final = 5.0
URGENT_SECONDS: Final = 1.0
"""The operator takes one post a second from a pod."""
FLUSH_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0
MAX_TOKEN_BYTES: Final = 16 * 1024


@dataclass(frozen=True)
class Receiver:
    """Where to post. url: https. ca: the only certificates that are trusted, as PEM. token: its file."""

    url: str
    ca: str
    token: Path

    @classmethod
    def from_environment(cls) -> "Receiver":
        names = (PROGRESS_URL_VARIABLE, PROGRESS_CA_VARIABLE, PROGRESS_TOKEN_VARIABLE)
        url, ca, token = (os.environ.get(name, "") for name in names)
        return cls(url, ca, Path(token))

    def post(self, body: bytes) -> None:
        """Raises whatever goes wrong. No proxy is used, no redirect followed: the token goes nowhere else."""
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"{PROGRESS_URL_VARIABLE} is no https address")
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_SECONDS, context=self._context()
        )
        try:
            connection.request("POST", parts.path or "/", body, self._headers())
            answer = connection.getresponse()
            if not 200 <= answer.status < 300:
                raise http.client.HTTPException(f"HTTP {answer.status} {answer.read(200)!r}")
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=self.ca)
        return context

    def _headers(self) -> dict[str, str]:
        """The token is read each time: the kubelet renews it in place."""
        with self.token.open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).decode("ascii").strip()
        return {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Connection": "close",
        }


class PostSchedule:
    """When to post next. interval: seconds between two posts, and the first wait after a failure; every
    failure doubles the wait. What is urgent waits a second at most, but shortens no wait after a failure."""

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._interval = interval
        self._began = float("-inf")
        self._wait = interval
        self.failures = 0

    def seconds_left(self, urgent: bool) -> float:
        """Until the next post is due; 0 or less: now."""
        wait = min(URGENT_SECONDS, self._wait) if urgent and not self.failures else self._wait
        return self._began + wait - self._clock()

    def begins(self) -> None:
        self._began = self._clock()

    def ends(self, well: bool) -> None:
        self.failures = 0 if well else self.failures + 1
        longest = max(self._interval, LONGEST_WAIT_SECONDS)
        self._wait = self._interval if well else min(self._interval * 2.0 ** min(self.failures, 16), longest)


class Pusher:
    """Posts the newest progress that it was offered. Thread-safe."""

    def __init__(
        self, target: Receiver, interval: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._pace = PostSchedule(interval, clock)
        self._changed = threading.Condition()
        self._next: Progress | None = None
        self._urgent = self._last = self._posting = False
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def offer(self, progress: Progress, urgent: bool = False) -> None:
        """Replaces what was not posted yet. Never waits for the network."""
        with self._changed:
            wake = self._next is None or (urgent and not self._urgent)
            self._next, self._urgent = progress, self._urgent or urgent
            if wake:
                self._changed.notify_all()

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Has what was offered posted now, and waits until that was tried, but no longer than `seconds`."""
        with self._changed:
            self._last = self._next is not None
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._last or self._posting), seconds)

    def _run(self) -> None:
        while True:
            progress = self._await_turn()
            well = self._post(progress)
            with self._changed:
                self._pace.ends(well)
                self._next = self._next or (None if well else progress)
                self._posting = False
                self._changed.notify_all()

    def _await_turn(self) -> Progress:
        with self._changed:
            while (progress := self._next) is None or (left := self._seconds_left()) > 0:
                self._changed.wait(left if progress else None)
            self._next, self._urgent, self._last, self._posting = None, False, False, True
            self._pace.begins()
            return progress

    def _seconds_left(self) -> float:
        return 0.0 if self._last else self._pace.seconds_left(self._urgent)

    def _post(self, progress: Progress) -> bool:
        """Whether it was taken. The log tells when that changes."""
        try:
            self._target.post(progress.model_dump_json(by_alias=True, exclude_none=True).encode())
        except Exception as problem:  # nothing that goes wrong here is the stage's business
            if not self._pace.failures:
                log.warning("progress can't be posted, and is tried again: %s", problem)
            return False
        if self._pace.failures:
            log.info("progress is posted again")
        return True

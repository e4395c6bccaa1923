"""Starts a server as a child process and waits until it answers.

A server dies with whoever started it, unless it is `detached`: then it stays, and whoever detaches
it knows how to end it.
"""

import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Final, Self

TAIL = 30


class ServerError(RuntimeError):
    """A server did not come up."""


class CommandError(OSError):
    """A command did not do what it was to do."""


class Process:
    """One child process and its log. It can be started again after a stop."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        detached: bool = False,
    ) -> None:
        self.log = log
        self._command = list(command) if detached else leashed(command)
        self._environment = {**os.environ, **(environment or {})}
        self._detached = detached
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, probe: Callable[[], object], within: float = 60) -> None:
        """Start it and wait at most `within` seconds until `probe` no longer raises OSError."""
        self.launch()
        self.await_answer(probe, within)

    def launch(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=None if self._detached else 0,
                start_new_session=self._detached,
            )

    def await_answer(self, probe: Callable[[], object], within: float = 60) -> None:
        """Wait at most `within` seconds until `probe` no longer raises OSError."""
        deadline = time.monotonic() + within
        while True:
            try:
                probe()
                return
            except OSError as error:
                self._check(error, deadline)
            time.sleep(0.05)

    def stop(self, grace: float = 2) -> None:
        """Ask it to end, and end it if it has not after `grace` seconds."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def kill(self) -> None:
        """End it without a word."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def let_go(self) -> None:
        """It goes on whatever becomes of this object, and leaves no zombie when it ends."""
        child, self._child = self._child, None
        if child is not None:
            Thread(target=child.wait, daemon=True).start()

    def _check(self, error: OSError, deadline: float) -> None:
        if self._child is not None and self._child.poll() is not None:
            raise self._failure(f"ended with status {self._child.returncode}") from error
        if time.monotonic() > deadline:
            raise self._failure(f"does not answer: {error}") from error

    def _failure(self, what: str) -> ServerError:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        headline = f"{self.log.stem} {what}; the end of {self.log}:"
        return ServerError("\n".join([headline, *lines]))


class Server(ABC):
    """Something made of processes that runs for as long as a `with` block does."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def leashed(command: Sequence[str]) -> list[str]:
    """The command, made to die with the thread that starts it, even if that one is killed."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


def run(
    *command: str,
    within: float = 120,
    environment: Mapping[str, str] | None = None,
    name: str = "",
    stdin: str = "",
) -> str:
    """What a command that reads `stdin` prints, once it has ended well. `name`: for complaints."""
    name = name or " ".join(command)
    try:
        done = subprocess.run(
            leashed(command),
            capture_output=True,
            check=False,
            env={**os.environ, **(environment or {})},
            errors="replace",
            input=stdin,
            text=True,
            timeout=within,
        )
    except subprocess.TimeoutExpired as late:
        raise CommandError(f"{name} did not end within {within:.0f} s") from late
    if done.returncode != 0:
        raise CommandError(f"{name} failed: {(done.stderr or done.stdout)[-4000:].strip()}")
    return done.stdout


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def free_port() -> int:
    """A port below those that the kernel gives to clients, so that it stays free in a restart."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


PROXIES: Final = urllib.request.getproxies()
"""Read once: threads that fetch must not walk through an environment in which pytest writes."""


def fetch(
    request: str | urllib.request.Request, context: ssl.SSLContext | None = None, within: float = 10
) -> bytes:
    """The body of a good answer; anything else is an OSError."""
    with _opener(context).open(request, timeout=within) as reply:
        return bytes(reply.read())


@cache
def _opener(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(PROXIES), urllib.request.HTTPSHandler(context=context)
    )

"""What is looked for after a run finds a secret in whatever form it leaks, and nothing else."""

import subprocess
import sys
import time
from base64 import b64encode
from typing import Final
from urllib.parse import urlencode

import pytest

from e2e.canaries import OFTEN, canary, leaks, overheard

SECRET: Final = "canary/0123456789abcdef"
OTHER: Final = "canary/fedcba9876543210"
LEAKS: Final = {
    "as it is": f"token={SECRET}",
    "in a URL": urlencode({"token": SECRET}),
    "in hexadecimal digits": SECRET.encode().hex(),
    "as a Secret holds it": b64encode(SECRET.encode()).decode(),
    "as basic authentication, after a user": b64encode(f"user:{SECRET}".encode()).decode(),
    "as basic authentication, after a longer user": b64encode(f"users:{SECRET}".encode()).decode(),
    "as basic authentication, before more": b64encode(f"someone:{SECRET}:more".encode()).decode(),
}
FINE: Final = {
    "nothing": "",
    "a part of it": SECRET[:-1],
    "another": OTHER,
    "another in base64": b64encode(OTHER.encode()).decode(),
}


@pytest.mark.parametrize("how", LEAKS)
def test_a_secret_is_found(how: str) -> None:
    assert leaks({"here": LEAKS[how].encode(), "there": b"fine"}, "other", SECRET) == ["here"]


@pytest.mark.parametrize("what", FINE)
def test_is_no_leak(what: str) -> None:
    assert leaks({"here": FINE[what].encode()}, SECRET) == []


def test_no_canary_is_like_another() -> None:
    assert canary() != canary()


def test_the_arguments_of_a_process_that_lives_for_a_moment_are_heard() -> None:
    secret = canary()
    with overheard() as arguments:
        subprocess.run([sys.executable, "-c", f"import time; time.sleep({5 * OFTEN})", secret], check=True)
    assert leaks({"arguments": b"\n".join(arguments)}, secret) == ["arguments"]


def test_nothing_is_heard_before_and_after() -> None:
    with overheard() as arguments:
        pass
    before = len(arguments)
    time.sleep(3 * OFTEN)
    assert len(arguments) == before

"""A stage whose libraries tell what they were given: its own program, with other work to do."""

import http.client
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from botocore.exceptions import ClientError

import lorafinetune_stages.download as work
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import DownloadArguments
from lorafinetune.contract.outcome import DownloadResult, StageError
from lorafinetune_stages.__main__ import main
from lorafinetune_stages.runtime import Context

SECRETS: Final = {
    "CONNECTION_HUB_TOKEN": "hf_canary0123456789",
    "CONNECTION_STORE_AWS_SECRET_ACCESS_KEY": "canary/K7MDENG+bPxRfiCY=",
    "CONNECTION_STORE_AWS_SESSION_TOKEN": "canary//session+token==",
    "CONNECTION_TRACKER_PASSWORD": 'canary "of" the \\ träcker',
    "AWS_SECRET_ACCESS_KEY": "canary/of/the/surroundings",
}
TOKEN, SESSION = SECRETS["CONNECTION_HUB_TOKEN"], SECRETS["CONNECTION_STORE_AWS_SESSION_TOKEN"]
ALL: Final = " ".join(SECRETS.values())
OF_THE_POD: Final = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.canary-of-the-pod"
"""It is in a file; only its form tells what it is."""


def a_header() -> None:
    connection = http.client.HTTPSConnection("hub.example")
    connection.putrequest("GET", "/")
    connection.putheader("Authorization", f"Bearer {TOKEN}\n")


def a_signed_url() -> None:
    request = httpx.Request("GET", "https://s3.example/rows", params={"X-Amz-Security-Token": SESSION})
    httpx.Response(403, request=request).raise_for_status()


def an_answer() -> None:
    raise ClientError(
        {"Error": {"Code": "ExpiredToken", "Message": f"<Token>{SESSION}</Token>"}}, "GetObject"
    )


def a_cause() -> None:
    try:
        an_answer()
    except ClientError as problem:
        raise StageError(Reason.STORAGE_DENIED, f"no way with {ALL}", f"Try {TOKEN}.") from problem


def a_long_text() -> None:
    raise RuntimeError("x" * (1000 - len("RuntimeError: ") - len(TOKEN) // 2) + TOKEN)


def the_environment() -> None:
    raise KeyError(dict(os.environ))


def json_of_it() -> None:
    raise ValueError(json.dumps(SECRETS))


def the_token_of_the_pod() -> None:
    raise PermissionError(f"401 for Bearer {OF_THE_POD}")


def a_line_of_the_log() -> None:
    logging.getLogger("botocore").warning("signing with %r, %s", SECRETS, ALL)


def a_handler_of_its_own() -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(logging.StreamHandler())
    logger.error(ALL)


def a_warning() -> None:
    warnings.warn(ALL, stacklevel=1)


def a_print() -> None:
    sys.stdout.writelines([ALL, "\n"])
    sys.stderr.write(ALL)


def a_thread_that_dies() -> None:
    thread = threading.Thread(target=the_environment)
    thread.start()
    thread.join()


WORDS: Final[Mapping[str, Callable[[], None]]] = {
    "an error about a header": a_header,
    "an error with a signed URL": a_signed_url,
    "an error with a server's answer": an_answer,
    "an error of ours, with its cause and its hint": a_cause,
    "an error that is cut amid a credential": a_long_text,
    "an error with the whole environment": the_environment,
    "an error with JSON": json_of_it,
    "an error with the token of the pod": the_token_of_the_pod,
    "a line of the log": a_line_of_the_log,
    "a line of a log of its own": a_handler_of_its_own,
    "a warning": a_warning,
    "what it prints": a_print,
    "the end of a thread": a_thread_that_dies,
}


def live(sentence: str) -> int:
    """What the forked process does."""

    def run(_arguments: DownloadArguments, _context: Context) -> DownloadResult:
        WORDS[sentence]()
        raise StageError(Reason.MODEL_NOT_FOUND, "that was all, [redacted]")

    changed: Any = work
    changed.run = run
    return main(["download"])

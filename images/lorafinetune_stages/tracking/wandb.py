"""Weights & Biases, by its own client, for its API is documented nowhere.

That client starts a program, waits for it at exit, and dies with it if a server answers oddly. So it runs in
a process of its own, which sees no more of the environment than it needs, and which is ended together with
everything it started. It connects through a proxy of ours, which guards it.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from lorafinetune.api.exports import Tracker
from lorafinetune.api.reasons import Reason
from lorafinetune.contract.outcome import StageError
from lorafinetune_stages.hubs.guard import RedirectGuard
from lorafinetune_stages.hubs.origin import Origin
from lorafinetune_stages.hubs.proxy import guarded
from lorafinetune_stages.tracking.record import Record

CLIENT: Final = "lorafinetune_stages.tracking.wandb_client"
WITHIN_SECONDS: Final = 50
"""Longest that the client may take."""
KEPT: Final = ("PATH", "PYTHONPATH", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
"""Behind one of them it is that proxy which connects, as for hubs."""


def tell(origin: Origin, tracker: Tracker, record: Record, scratch: Path) -> None:
    """Brings the run of that id to the state of the record. scratch: for what the client writes. Raises
    StageError."""
    key, told = origin.required_token(), _told(origin, tracker, record)
    with (
        TemporaryDirectory(dir=scratch, prefix="wandb-", ignore_cleanup_errors=True) as home,
        guarded(RedirectGuard(origin).check) as proxy,
    ):
        told["proxy"] = None if any(name in os.environ for name in PROXIES) else proxy.url
        status = _run(json.dumps(told).encode(), _environment(key, home), home)
    if proxy.refusals:
        raise proxy.refusals[0]
    if status:
        raise _failure(origin, status)


def _told(origin: Origin, tracker: Tracker, record: Record) -> dict[str, Any]:
    return {
        "endpoint": origin.endpoint,
        "entity": tracker.entity,
        "project": tracker.project,
        "id": record.id,
        "name": record.name,
        "config": {**record.parameters, **record.tags},
        "points": [(point.step, dict(point.values)) for point in record.points],
        "results": dict(record.results),
        "within": WITHIN_SECONDS,
    }


def _environment(key: str, home: str) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in (*KEPT, *PROXIES, "NO_PROXY", "no_proxy") if name in os.environ
    }
    return {**kept, "HOME": home, "TMPDIR": home, "WANDB_API_KEY": key, "WANDB_ERROR_REPORTING": "false"}


def _run(payload: bytes, environment: dict[str, str], home: str) -> int:
    """The status with which the client ends. What it says is heard by nobody: a server could have put the key
    into it."""
    client = subprocess.Popen(
        [sys.executable, "-m", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=home,
        start_new_session=True,
    )
    try:
        client.communicate(payload, WITHIN_SECONDS)
        return client.returncode
    except subprocess.TimeoutExpired:
        return -signal.SIGALRM
    finally:
        with suppress(ProcessLookupError):
            os.killpg(client.pid, signal.SIGKILL)
        client.wait()


def _failure(origin: Origin, status: int) -> StageError:
    late = status == -signal.SIGALRM
    what = f"was not done after {WITHIN_SECONDS} s" if late else "can't be reached, refuses, or answers oddly"
    return origin.error(Reason.HUB_UNAVAILABLE, f"{origin.failed}: {origin.host} {what}")

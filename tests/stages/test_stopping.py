"""A stage that is asked to stop before it has begun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lorafinetune.api.reasons import Reason
from lorafinetune.contract.arguments import MESSAGE_VARIABLE
from lorafinetune.contract.outcome import ExitCode, StageError, decode_message


def test_a_stage_that_is_asked_to_stop_while_it_is_being_imported_says_so(tmp_path: Path) -> None:
    message = tmp_path / "message"
    stage = subprocess.Popen(
        [sys.executable, "-m", "lorafinetune_stages", "download"],
        env=os.environ | {MESSAGE_VARIABLE: str(message)},
    )
    while not keeps_sigterm(stage.pid):
        assert stage.poll() is None, "it began without keeping the signal"
        time.sleep(0.001)
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(30) == ExitCode.STOPPED
    told = decode_message("download", message.read_text())
    assert isinstance(told, StageError)
    assert told.reason is Reason.PREEMPTED


def keeps_sigterm(pid: int) -> bool:
    """Whether a signal would wait for its handler."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (blocked,) = (line.split()[1] for line in lines if line.startswith("SigBlk:"))
    return bool(int(blocked, 16) >> (signal.SIGTERM - 1) & 1)

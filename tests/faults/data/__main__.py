"""Reads the dataset that it is told of, and tells what became of it, how many seconds of the processor that
took, and how much memory this process has used at most, in MiB."""

import json
import re
import sys
import time
from pathlib import Path

from faults.data.reading import read
from lorafinetune.contract.outcome import StageError


def outcome(root: Path) -> str:
    try:
        return f"{read(root, {})} good rows"
    except StageError as error:
        return error.message


def peak() -> int:
    """Not `ru_maxrss`, which counts what the process that started this one had."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) // 1024


began = time.process_time()
message = outcome(Path(sys.argv[1]))
sys.stdout.write(json.dumps([message, time.process_time() - began, peak()]))

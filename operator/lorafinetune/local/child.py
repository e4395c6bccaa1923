"""Starts a stage that does not outlive its runner: it is asked to stop when the runner dies."""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
RUNNER_VARIABLE = "LORAFINETUNE_RUNNER"
"""The runner's process: one that died before this began to listen for it sends no signal."""


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(os.environ[RUNNER_VARIABLE]):
        signal.raise_signal(signal.SIGTERM)
    runpy.run_module("lorafinetune_stages", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

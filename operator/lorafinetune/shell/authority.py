"""The authority that stages trust when they post their progress: a file of a mounted Secret, which may be
renewed."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lorafinetune.core.jobs import Receiver

log = logging.getLogger(__name__)

IS_READ_EVERY: Final = 30.0
FILE: Final = "ca.crt"


class Authority:
    """What Jobs are told of the receiver; the certificates are read again every half minute. While they can't
    be, the last ones stay: every reconciliation of every run asks for them."""

    def __init__(self, url: str, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises OSError where the file is not there."""
        self._url = url
        self._file = folder / FILE
        self._clock = clock
        self._receiver = self._read()

    def receiver(self) -> Receiver:
        if self._clock() - self._read_at >= IS_READ_EVERY:
            try:
                self._receiver = self._read()
            except (OSError, UnicodeDecodeError) as problem:
                log.warning("kept the old authority: %s: %s", self._file, problem)
        return self._receiver

    def _read(self) -> Receiver:
        self._read_at = self._clock()
        return Receiver(self._url, self._file.read_text())

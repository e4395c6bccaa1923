"""The receiver's certificate, which is renewed in place while it runs."""

import logging
import ssl
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

FILES: Final = ("tls.crt", "tls.key")
Mark = tuple[int, int, int]


class Certificate:
    """Reads `tls.crt` and `tls.key` from a folder, and again when they have changed."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the files are not there, or don't fit each other."""
        self._files = tuple(folder / name for name in FILES)
        self._seen = self._marks()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For the next connection. While the new files can't be read, the old certificate stays."""
        marks = self._marks()
        if marks != self._seen:
            self._seen = marks
            try:
                self._context = self._load()
                log.info("took the renewed certificate from %s", self._files[0])
            except OSError as problem:
                log.warning("kept the old certificate: %s: %s", self._files[0], problem)
        return self._context

    def _marks(self) -> tuple[Mark, ...]:
        """What tells one state of the files from another."""
        return tuple(_mark(file) for file in self._files)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate, key = self._files
        context.load_cert_chain(certificate, key)
        return context


def _mark(file: Path) -> Mark:
    try:
        state = file.stat()
    except OSError:
        return (0, 0, 0)
    return (state.st_ino, state.st_mtime_ns, state.st_size)

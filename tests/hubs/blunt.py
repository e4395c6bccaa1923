"""A server that says the same to everybody, whatever it is asked, and hangs up."""

import socket
import threading
from contextlib import suppress
from typing import Self


class BluntServer:
    """words: all that it says."""

    def __init__(self, words: bytes) -> None:
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(ConnectionError):
                    connection.recv(2**16)
                    connection.sendall(self._words)

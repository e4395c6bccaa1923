"""What a training sends to the store while it goes on: a GPU does not wait for a store.

One thread sends one thing after another, in the order in which they were handed over. So what a state refers
to is in the store before the state, and is not removed while a state that refers to it is still on its way.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


class Uploads:
    """After one has failed nothing more is sent: what follows may speak of what is missing."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="uploads")
        self._failure: BaseException | None = None

    def send(self, upload: Callable[[], None]) -> Future[None]:
        """Has it sent once all before it are. Raises what one of them failed by."""
        self.check()
        return self._pool.submit(self._run, upload)

    def check(self) -> None:
        """Raises what an upload failed by, so far."""
        if self._failure:
            raise self._failure

    def wait(self) -> None:
        """Until all are sent. Raises what one of them failed by."""
        self._pool.submit(self.check).result()

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Waits in the end, also where the training fails: what it saved last is gone on from."""
        try:
            yield
        finally:
            self._pool.submit(lambda: None).result()
        self.check()

    def _run(self, upload: Callable[[], None]) -> None:
        self.check()
        try:
            upload()
        except BaseException as problem:
            self._failure = problem
            raise

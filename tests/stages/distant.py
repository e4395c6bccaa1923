"""A server that is far away: what it sends comes late, and slowly over each connection."""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 2**16
BOUND_SECONDS: Final = 10


class Distant:
    """Stands at `endpoint` before the server at `target`.

    late: seconds until an answer begins. rate: bytes a second over one connection. most: connections that
    there have been at once.
    """

    def __init__(self, target: str, late: float, rate: float) -> None:
        self._target = urlsplit(target)
        self._late = late
        self._rate = rate
        self._now = self.most = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        began = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", 0), self._loop
        )
        self._server = began.result(BOUND_SECONDS)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(BOUND_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND_SECONDS)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        host, port = self._target.hostname, self._target.port
        there, onward = await asyncio.open_connection(host, port)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):  # either side may leave at any time
                await asyncio.gather(self._ask(reader, onward), self._answer(there, writer))
        finally:
            self._now -= 1
            writer.close()
            onward.close()

    async def _ask(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self._late)
            onward.write(data)
            await onward.drain()
        onward.close()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / self._rate)
        writer.close()

"""A slow link to a server: bytes pass late, and no faster than a link lets them."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

PIECE = 512


@dataclass
class Link:
    """port: where it begins, on this machine. rate: bytes a second each way, for all connections together.
    delay: seconds each way. received: bytes that came from the server."""

    target: tuple[str, int]
    rate: float
    delay: float
    port: int = 0
    received: int = 0
    _down: asyncio.Lock = field(default_factory=asyncio.Lock)
    _up: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.target)
        with closing(writer), closing(back), suppress(asyncio.CancelledError):
            await asyncio.gather(self._carry(reader, back, self._up), self._carry(there, writer, self._down))

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, line: asyncio.Lock
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._arrive(under_way, sink, line))
        now = asyncio.get_running_loop().time
        with suppress(ConnectionError):
            while piece := await source.read(PIECE):
                async with line:
                    await asyncio.sleep(len(piece) / self.rate)
                under_way.put_nowait((now() + self.delay, piece))
        under_way.put_nowait((now() + self.delay, b""))
        await arriving

    async def _arrive(
        self, under_way: "asyncio.Queue[tuple[float, bytes]]", sink: asyncio.StreamWriter, line: asyncio.Lock
    ) -> None:
        with suppress(ConnectionError):
            while (sent := await under_way.get())[1]:
                await asyncio.sleep(max(0.0, sent[0] - asyncio.get_running_loop().time()))
                sink.write(sent[1])
                self.received += len(sent[1]) if line is self._down else 0
                await sink.drain()
        sink.close()


@contextmanager
def linked(target: tuple[str, int], rate: float, delay: float) -> Iterator[Link]:
    """A link to the target until the block is left."""
    link = Link(target, rate, delay)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(link.connect, "127.0.0.1", 0)
        link.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield link
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()

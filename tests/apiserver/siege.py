"""Strangers at a port that speaks TLS: `python -m apiserver.siege HOST PORT CA BAD SLOW`.

They send so many bad requests, while so many connections speak a byte a second, from as many addresses as
it takes to be let in. They print how many were sent, and leave after the last.
"""

import asyncio
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, cycle, islice
from typing import Final

AT_ONCE: Final = 32
ADDRESSES: Final = 64
"""All of them this machine's."""
SAYS_EVERY: Final = 100
PAUSE: Final = 1.0
LINE: Final = 100
PATIENCE: Final = 30.0
"""Seconds."""
HEAD: Final = b"POST /progress HTTP/1.1\r\nHost: stranger\r\n"
BODY: Final = b'Content-Length: 18\r\n\r\n{"stage": "train"}'
BAD: Final = (
    HEAD + BODY,
    HEAD + b"Authorization: Bearer a.b.c\r\n" + BODY,
    HEAD.replace(b"progress", b"../etc") + BODY,
    HEAD.replace(b"POST", b"DELETE") + BODY,
    HEAD + b"Content-Length: 5\r\n" + BODY,
    b"\x00\x01\x02" * 100 + b"\r\n\r\n",
)
UNAUTHENTICATED: Final = 2
"""How many of these are answered with 401: the first."""


class Siege:
    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._where = (host, port)
        self._context = context
        self._sources = cycle(f"127.0.1.{number}" for number in range(1, ADDRESSES + 1))

    async def run(self, bad: int, slow: int) -> None:
        pending = islice(cycle(BAD), bad)
        sent = count(1)
        idlers = [asyncio.create_task(self._idle()) for _ in range(slow)]
        await asyncio.gather(*(self._send(pending, sent) for _ in range(AT_ONCE)))
        for idler in idlers:
            idler.cancel()

    async def _send(self, pending: Iterator[bytes], sent: Iterator[int]) -> None:
        for request in pending:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._ask(request)
            if (number := next(sent)) % SAYS_EVERY == 0:
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()

    async def _ask(self, request: bytes) -> None:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            await reader.read(LINE)
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source = (next(self._sources), 0)
        return await asyncio.open_connection(*self._where, ssl=self._context, local_addr=source)

    async def _idle(self) -> None:
        """Says a byte of its headers a second, and comes again when it is shown the door."""
        while True:
            with suppress(OSError):
                _, writer = await self._connect()
                try:
                    for byte in cycle(HEAD):
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(PAUSE)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(PAUSE)


def main(host: str, port: str, ca: str, bad: str, slow: str) -> None:
    context = ssl.create_default_context(cafile=ca)
    asyncio.run(Siege(host, int(port), context).run(int(bad), int(slow)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What the proxies have in common: a server on one side, a session with what is behind it on the other."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def between(
    answer: Answer, largest: int, context: ssl.SSLContext | None = None, decompress: bool = True
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """The server's URL, and the session. largest: bytes of a request. context: of what is behind."""
    app = web.Application(client_max_size=largest)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, auto_decompress=decompress)
    connector = aiohttp.TCPConnector(limit=0, ssl=context or True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=decompress) as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port, *_ = runner.addresses[0]
        try:
            yield f"http://{host}:{port}", session
        finally:
            await runner.cleanup()

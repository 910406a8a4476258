"""The agent's health over HTTP: /livez, /readyz, /status and /metrics, for supervisors and monitoring. It only tells.

`Serving` carries the control socket's pages as well.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Middleware

from presence.agent.metrics import Metrics
from presence.agent.status import Document, Status

LARGEST_REQUEST = 64 * 1024
CLOSE_WITHIN = 1.0
MOST_CONNECTIONS = 64
"""At once, to the sockets of one `Serving`: whoever opens more takes no file from the deliveries."""
_HEADERS = {"Cache-Control": "no-store", "Server": "Presence"}


class Serving:
    """Serves pages at sockets. `async with`; closes the sockets."""

    def __init__(
        self, sockets: Sequence[socket.socket], routes: Iterable[web.RouteDef], middlewares: Iterable[Middleware] = ()
    ) -> None:
        application = web.Application(middlewares=middlewares, client_max_size=LARGEST_REQUEST)
        application.add_routes(routes)
        self._sockets = sockets
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_WITHIN, keepalive_timeout=30.0
        )

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._servers = [await loop.create_server(self._door, sock=listening) for listening in self._sockets]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        await self._runner.cleanup()

    def _door(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        return _Door(server)


class _Door(asyncio.Protocol):
    """Lets a connection in to the server, unless there are too many; only now is it known how many there are."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._server.connections) >= MOST_CONNECTIONS:
            transport.close()
            return
        served = self._server()
        transport.set_protocol(served)
        served.connection_made(transport)


def pages(status: Status, metrics: Metrics) -> list[web.RouteDef]:
    """What anyone may ask who reaches the port."""

    async def livez(_request: web.Request) -> web.Response:
        return _verdict(await status.hanging())

    async def readyz(_request: web.Request) -> web.Response:
        return _verdict([*await status.hanging(), *status.unready()])

    async def whole(_request: web.Request) -> web.Response:
        return answer(await status.document())

    async def counted(request: web.Request) -> web.Response:
        content_type, text = await metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={**_HEADERS, "Content-Type": content_type})

    return [
        web.get("/livez", livez),
        web.get("/readyz", readyz),
        web.get("/status", whole),
        web.get("/metrics", counted),
    ]


def answer(document: Document, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, headers=_HEADERS)


def _verdict(faults: list[str]) -> web.Response:
    return answer({"ok": not faults, "faults": faults}, 503 if faults else 200)

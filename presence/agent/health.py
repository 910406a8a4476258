"""The agent's health over HTTP: /livez, /readyz and /status, for supervisors and monitoring. It only tells.

`Serving` carries the control socket's pages as well.
"""

import socket
from collections.abc import Iterable, Sequence
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Middleware

from presence.agent.status import Document, Status

LARGEST_REQUEST = 64 * 1024
CLOSE_WITHIN = 1.0
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
        for listening in self._sockets:
            await web.SockSite(self._runner, listening).start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()
        for listening in self._sockets:
            listening.close()


def pages(status: Status) -> list[web.RouteDef]:
    """What anyone may ask who reaches the port."""

    async def livez(_request: web.Request) -> web.Response:
        return _verdict(await status.hanging())

    async def readyz(_request: web.Request) -> web.Response:
        return _verdict([*await status.hanging(), *status.unready()])

    async def whole(_request: web.Request) -> web.Response:
        return answer(await status.document())

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/status", whole)]


def answer(document: Document, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, headers=_HEADERS)


def _verdict(faults: list[str]) -> web.Response:
    return answer({"ok": not faults, "faults": faults}, 503 if faults else 200)

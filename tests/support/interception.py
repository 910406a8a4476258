"""An HTTP proxy that looks into TLS: it shows certificates of an authority of its own, and reads all that passes."""

import asyncio
import ssl
from contextlib import suppress
from typing import Self

import trustme

from tests.support.tls import server_context


class InterceptingProxy:
    """`async with InterceptingProxy(authority) as proxy`: `proxy.url`; `asked`: the places that tunnels were for."""

    def __init__(self, authority: trustme.CA) -> None:
        self._authority = authority
        self.asked: list[str] = []
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        try:
            with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
                await self._intercept(reader, writer)
        finally:
            writer.transport.abort()

    async def _intercept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(place)
        host, _, port = place.rpartition(":")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await writer.start_tls(server_context(self._authority.issue_cert(host)))
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        there, here = await asyncio.open_connection(host, int(port), ssl=trusting)
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(_pass_on(reader, here))
                directions.create_task(_pass_on(there, writer))
        except* OSError:
            pass
        finally:
            here.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side ends, which is the end of both."""
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()
    raise ConnectionResetError

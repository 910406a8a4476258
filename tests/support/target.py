"""A target on a raw socket: records each request byte for byte and answers as told."""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Self

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def always(response: bytes) -> Answer:
    """Answers every request with these bytes and keeps the connection."""

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    return answer


def status(*codes: int) -> Answer:
    """Answers with these status codes in turn, the last one for ever."""
    left = list(codes)

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code = left.pop(0) if len(left) > 1 else left[0]
        writer.write(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())

    return answer


async def silence(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Never answers; returns when the client has gone."""
    await reader.read()


async def reset(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST instead of an answer."""
    break_off(writer)


async def hang_up(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection with FIN instead of an answer."""
    writer.close()


def break_off(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST; what was written and is still on its way is lost."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def closing(response: bytes) -> Answer:
    """Answers with these bytes and closes the connection."""

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        writer.close()

    return answer


def endless(start: bytes, more: bytes, pause: float = 0.0) -> Answer:
    """Answers with `start` and then `more` again and again, `pause` seconds apart, until the client has gone."""

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Each answer once, the last one for ever; across all connections."""
    left = list(answers)

    async def answer(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, reader, writer)

    return answer


class Target:
    """`async with Target() as target`; `target.requests` in the order of arrival, each with its body.

    `greeting`: what it says before it is asked. `reuse_port`: others may listen on the wildcard address beside it.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        greeting: bytes = b"",
        reuse_port: bool = False,
    ) -> None:
        self.answer = answer or always(NO_CONTENT)
        self._tls, self._greeting, self._reuse_port = tls, greeting, reuse_port
        self.requests: list[bytes] = []
        self.arrivals: list[float] = []
        self.connections = 0
        self._host, self._wanted_port = host, port
        self._arrived = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self._host, self._wanted_port, ssl=self._tls, reuse_port=self._reuse_port or None, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    def url(self, path: str = "/ScanEnded/{SubjectId}") -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}{path}"

    async def received(self, count: int, timeout: float = 20.0) -> list[bytes]:
        """The requests, once there are at least `count`."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return list(self.requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        self._writers.add(writer)
        self.connections += 1
        try:
            writer.write(self._greeting)
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                request += await reader.readexactly(int(head(request)[1].get("content-length", 0)))
                async with self._arrived:
                    self.arrivals.append(time.perf_counter())
                    self.requests.append(request)
                    self._arrived.notify_all()
                await self.answer(request, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def head(request: bytes) -> tuple[str, dict[str, str]]:
    """The request line, and the headers by lower-case name."""
    line, *headers = request.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    pairs = (header.partition(": ") for header in headers if header)
    return line, {name.lower(): value for name, _, value in pairs}

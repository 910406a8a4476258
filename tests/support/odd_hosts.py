"""Hosts that do not even answer: a port that drops connections, a proxy that passes them on."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.target import Answer


@contextmanager
def black_hole(host: str = "127.0.0.1") -> Iterator[int]:
    """A port whose connections are never established: its queue is full, so that what asks for one is not answered."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen(0)
        fillers = [socket.socket(family) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def closed_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


def tunnel_to(port: int, host: str = "127.0.0.1") -> Answer:
    """Answers CONNECT, whatever it names, with a tunnel to that port."""

    async def answer(_request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_pass_on(reader, there_writer))
            ways.create_task(_pass_on(there_reader, writer))

    return answer


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while received := await reader.read(65536):
            writer.write(received)
            await writer.drain()
    writer.close()

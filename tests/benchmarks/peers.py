"""The other processes of a benchmark: `python -m tests.benchmarks.peers target | bare URL COUNT`.

`target` answers 204 to everything as cheaply as Python can; `bare` is what we are measured against: a loop
of GETs with aiohttp and nothing around it, at the same concurrency and on the same event loop as the agent.
"""

import asyncio
import json
import sys
import time
from typing import cast

import aiohttp

from presence.agent.app import loop_factory

IN_FLIGHT = 64


class Quick(asyncio.Protocol):
    """Counts ends of requests; no parser."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._left = b""

    def data_received(self, received: bytes) -> None:
        *requests, self._left = (self._left + received).split(b"\r\n\r\n")
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n" * len(requests))


async def target() -> None:
    server = await asyncio.get_running_loop().create_server(Quick, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def bare(url: str, count: int) -> None:
    left = iter(range(count))

    async def one_after_the_other(session: aiohttp.ClientSession) -> None:
        for number in left:
            async with session.get(f"{url}{number:036}") as response:
                await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(one_after_the_other(session) for _ in range(IN_FLIGHT)))
        left = iter(range(count))
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(one_after_the_other(session) for _ in range(IN_FLIGHT)))
        print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


def main() -> None:
    work = target() if sys.argv[1] == "target" else bare(sys.argv[2], int(sys.argv[3]))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()

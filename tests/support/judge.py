"""The judge: a target in a process of its own, outside everything that is killed.

It appends a line for each request, `webhook-id time status path` with the time in seconds since the epoch, and
answers once the line is on the disk. What stands there has arrived, whatever anybody else believes.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from time import time
from typing import NamedTuple, Self, cast
from zlib import crc32

ROOT = Path(__file__).parents[2]
DROP = "/drop/"
"""Where a path has this, the first request of each delivery gets no answer: the connection is closed."""
LOOK = 0.02
"""Seconds between two looks at the judge's file."""


class Arrival(NamedTuple):
    """A request that has arrived. `status` is zero if it got no answer."""

    id: str
    at: float
    status: int
    path: str


class Judge:
    """`async with Judge(directory) as judge`. `delay`: seconds from a request to its answer; `refuse`: how many
    requests of each delivery, or of one in so many, are answered 503 before the first success.
    """

    def __init__(self, directory: Path, delay: float = 0.0, refuse: int = 0, one_in: int = 1) -> None:
        self.file = directory / "judge.log"
        self._options = [str(self.file), f"--delay={delay}", f"--refuse={refuse}", f"--one-in={one_in}"]
        self._read = 0
        self._arrivals: list[Arrival] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.judge", *self._options), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.kill()
        await self._process.wait()

    def url(self, path: str = "/{SubjectId}") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def arrivals(self) -> list[Arrival]:
        """All that arrived until now, in order."""
        with self.file.open("rb") as lines:
            lines.seek(self._read)
            *whole, _ = lines.read().split(b"\n")
        for line in whole:
            self._read += len(line) + 1
            delivery, at, status, path = line.decode().split(" ")
            self._arrivals.append(Arrival(delivery, float(at), int(status), path))
        return self._arrivals

    def delivered(self) -> Counter[str]:
        """How often each delivery was answered with success."""
        return Counter(arrival.id for arrival in self.arrivals() if arrival.status == 204)

    async def beyond(self, count: int, timeout: float) -> bool:
        """Whether more than `count` requests have arrived, once they have or the time is over."""
        return await self._seen(lambda: len(self.arrivals()) > count, timeout)

    async def has(self, deliveries: Collection[str], timeout: float) -> bool:
        """Whether all of these have arrived, once they have or the time is over."""
        wanted = set(deliveries)
        return await self._seen(lambda: wanted <= self.delivered().keys(), timeout)

    async def first(self, path: str, after: float, timeout: float) -> Arrival | None:
        """The first arrival at this path after that time."""

        def found() -> Arrival | None:
            return next((each for each in self.arrivals() if each.at > after and each.path.startswith(path)), None)

        await self._seen(lambda: found() is not None, timeout)
        return found()

    async def _seen(self, condition: Callable[[], bool], timeout: float) -> bool:
        """A file of another process has no event to wait for: it is looked at."""
        end = asyncio.get_running_loop().time() + timeout
        while not (seen := condition()) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        return seen


class _Connection(asyncio.Protocol):
    def __init__(self, record: "_Record") -> None:
        self._record = record
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, received: bytes) -> None:
        *requests, self._left = (self._left + received).split(b"\r\n\r\n")
        for request in requests:
            self._record.write(request, self._transport)


class _Record:
    """Writes what arrives in one turn of the loop with one fsync, then answers."""

    def __init__(self, file: Path, delay: float, refuse: int, one_in: int) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._delay, self._refuse, self._one_in = delay, refuse, one_in
        self._count: Counter[str] = Counter()
        self._waiting: list[tuple[bytes, asyncio.Transport, int]] = []

    def write(self, request: bytes, transport: asyncio.Transport) -> None:
        line, *headers = request.decode("latin-1").split("\r\n")
        names = dict(header.lower().split(": ", 1) for header in headers)
        delivery = names.get("webhook-id", "-")
        self._count[delivery] += 1
        is_refused = self._count[delivery] <= self._refuse and crc32(delivery.encode()) % self._one_in == 0
        status = 503 if is_refused else 204
        if DROP in line and self._count[delivery] == 1:
            status = 0
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        text = f"{delivery} {time():.6f} {status} {line.split(' ')[1]}\n"
        self._waiting.append((text.encode(), transport, status))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        os.write(self._file, b"".join(text for text, _, _ in waiting))
        os.fsync(self._file)
        for _, transport, status in waiting:
            if not status:
                transport.close()
                continue
            answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
            asyncio.get_running_loop().call_later(self._delay, transport.write, answer)


async def serve(file: Path, delay: float, refuse: int, one_in: int) -> None:
    record = _Record(file, delay, refuse, one_in)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(record), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Prints its port."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.judge", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--refuse", type=int, default=0)
    parser.add_argument("--one-in", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(serve(options.file, options.delay, options.refuse, options.one_in))


if __name__ == "__main__":
    main()

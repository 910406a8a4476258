"""An HTTP proxy that keeps what passes: between agent and control plane, without TLS, to look at every byte of it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.fault_proxy import LENGTH, MASKED, TEXT, unmasked


@dataclass
class Passage:
    """One tunnel: how it was asked for, and what passed to the control plane (`up`) and back (`down`)."""

    asked: bytes
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)

    @property
    def heads(self) -> bytes:
        """The requests' and the answer's heads, and all of what is no websocket."""
        if b"upgrade: websocket" not in bytes(self.up).lower():
            return self.asked + self.up + self.down
        return self.asked + _head(self.up) + _head(self.down)

    def messages(self) -> Iterator[dict[str, Any]]:
        """What both sides said over the websocket."""
        if b"upgrade: websocket" in bytes(self.up).lower():
            yield from _messages(bytes(self.up))
            yield from _messages(bytes(self.down))


class Recorder:
    """`async with Recorder() as recorder`: `recorder.url` is a proxy for CONNECT."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Ends all connections that are there."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        self._open.add(writer)
        behind: asyncio.StreamWriter | None = None
        try:
            passage = Passage(await reader.readuntil(b"\r\n\r\n"))
            self.passages.append(passage)
            host, _, port = passage.asked.split()[1].decode().rpartition(":")
            answers, behind = await asyncio.open_connection(host, int(port))
            self._open.add(behind)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pump(reader, behind, passage.up), _pump(answers, writer, passage.down))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for side in filter(None, (writer, behind)):
                self._open.discard(side)
                side.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    while data := await reader.read(65536):
        kept += data
        writer.write(data)
        await writer.drain()
    writer.close()


def _head(recorded: bytearray) -> bytes:
    return bytes(recorded).partition(b"\r\n\r\n")[0]


def _messages(recorded: bytes) -> Iterator[dict[str, Any]]:
    """Those of the whole frames in it (RFC 6455, section 5.2)."""
    rest = recorded.partition(b"\r\n\r\n")[2]
    while len(rest) >= 2:
        at = 2 + {126: 2, 127: 8}.get(rest[1] & LENGTH, 0)
        size = int.from_bytes(rest[2:at]) if at > 2 else rest[1] & LENGTH
        mask = rest[at : at + 4] if rest[1] & MASKED else b""
        begin = at + len(mask)
        payload, kind = rest[begin : begin + size], rest[0] & 0x0F
        rest = rest[begin + size :]
        if kind == TEXT and len(payload) == size:
            said = json.loads(unmasked(payload, mask))
            yield from said if isinstance(said, list) else [said]

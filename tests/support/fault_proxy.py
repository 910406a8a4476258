"""A proxy that knows websocket frames: between agent and control plane, it does to the link what networks do.

Always: `latency`, a slow `drip`. To new connections: `accepts = False` closes them as soon as they are there.
To those that are there: `strike(How)`. At a message: `trap(kind, Moment, How)` springs at the next frame with that
message, once; `request` and `response` are the two halves of the handshake.
"""

import asyncio
import json
from dataclasses import dataclass, field
from enum import StrEnum
from time import time
from typing import Self

from tests.support.target import break_off

TEXT = 1
MASKED, LENGTH = 0x80, 0x7F


class How(StrEnum):
    """How a connection ends: FIN, RST, or not at all while nothing passes any more (half-open)."""

    CLOSE = "close"
    RESET = "reset"
    HOLE = "hole"


class Moment(StrEnum):
    """Whether the frame still passes: no, half of it, yes."""

    BEFORE = "before"
    WITHIN = "within"
    AFTER = "after"


@dataclass
class Trap:
    """`sprung` is set when it happened, at `at` (seconds since the epoch)."""

    kind: str
    moment: Moment
    how: How
    at: float = 0.0
    sprung: asyncio.Event = field(default_factory=asyncio.Event)


class FaultProxy:
    """`async with FaultProxy(port) as proxy`: whatever connects to `proxy.port` reaches that port of this host.

    `drip`: bytes and seconds between them. `connections` counts what was accepted, let through or not.
    """

    def __init__(self, port: int) -> None:
        self.accepts = True
        self.latency = 0.0
        self.drip: tuple[int, float] | None = None
        self.connections = 0
        self._behind = port
        self._trap: Trap | None = None
        self._passages: set[_Passage] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.strike(How.RESET)
        if running := [passage.task for passage in self._passages]:
            await asyncio.wait(running)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def trap(self, kind: str, moment: Moment, how: How) -> Trap:
        self._trap = Trap(kind, moment, how)
        return self._trap

    def disarm(self) -> None:
        self._trap = None

    def strike(self, how: How) -> None:
        """To all connections that are there."""
        for passage in list(self._passages):
            passage.strike(how)

    def caught(self, kinds: set[str]) -> Trap | None:
        """The trap, if it waits for one of these; it is gone then."""
        trap = self._trap
        if trap is None or trap.kind not in kinds:
            return None
        self._trap = None
        return trap

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self.accepts:
            writer.close()
            return
        try:
            behind = await asyncio.open_connection("127.0.0.1", self._behind, limit=1 << 20)
        except OSError:
            break_off(writer)
            return
        passage = _Passage(self, (reader, writer), behind)
        self._passages.add(passage)
        try:
            await passage.run()
        finally:
            self._passages.discard(passage)


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Passage:
    """One connection through the proxy: two directions, and what was done to them."""

    def __init__(self, proxy: FaultProxy, agent: Side, behind: Side) -> None:
        self._proxy, self._agent, self._behind = proxy, agent, behind
        self._is_hole = False
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    async def run(self) -> None:
        (from_agent, to_agent), (from_behind, to_behind) = self._agent, self._behind
        up = asyncio.create_task(self._pump(from_agent, to_behind, "request"))
        down = asyncio.create_task(self._pump(from_behind, to_agent, "response"))
        await asyncio.wait([up, down])
        to_agent.close()
        to_behind.close()

    def strike(self, how: How) -> None:
        if how is How.HOLE:
            self._is_hole = True
            return
        for _, writer in (self._agent, self._behind):
            if how is How.CLOSE or writer.transport.is_closing():
                writer.close()
            else:
                break_off(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handshake: str) -> None:
        try:
            await self._pass(await reader.readuntil(b"\r\n\r\n"), {handshake}, writer)
            while True:
                unit, kinds = await _read_frame(reader)
                await self._pass(unit, kinds, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            if not self._is_hole:
                writer.close()

    async def _pass(self, unit: bytes, kinds: set[str], writer: asyncio.StreamWriter) -> None:
        if self._is_hole:
            return
        trap = self._proxy.caught(kinds)
        if trap is None or trap.moment is Moment.AFTER:
            await self._forward(unit, writer)
        elif trap.moment is Moment.WITHIN:
            await self._forward(unit[: len(unit) // 2], writer)
        if trap is not None:
            trap.at = time()
            self.strike(trap.how)
            trap.sprung.set()

    async def _forward(self, unit: bytes, writer: asyncio.StreamWriter) -> None:
        if self._proxy.latency:
            await asyncio.sleep(self._proxy.latency)
        size, pause = self._proxy.drip or (len(unit), 0.0)
        for start in range(0, len(unit), max(1, size)):
            writer.write(unit[start : start + size])
            await writer.drain()
            await asyncio.sleep(pause)


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, set[str]]:
    """A whole frame as it came, and the types of the messages in it."""
    head = await reader.readexactly(2)
    length = head[1] & LENGTH
    more = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
    size = int.from_bytes(more) if more else length
    mask = await reader.readexactly(4 if head[1] & MASKED else 0)
    payload = await reader.readexactly(size)
    kinds = _kinds(unmasked(payload, mask)) if head[0] & 0x0F == TEXT else set()
    return head + more + mask + payload, kinds


def unmasked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(len(payload))


def _kinds(text: bytes) -> set[str]:
    messages = json.loads(text)
    return {message["type"] for message in (messages if isinstance(messages, list) else [messages])}

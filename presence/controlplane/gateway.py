"""The agents' websocket: one `_Conversation` for each connection, with four loops.

read:   frames -> session -> inbox        record: inbox -> database -> answers
write:  session.outgoing() -> frames      canary: asks for a sign of life, drops the silent

Whoever sees the end first says so (`Connection.end`); `record` then writes down what was heard before,
and the conversation is over. Every await on the network is bounded; a peer that stops reading is cut
off by the kernel (TCP_USER_TIMEOUT on the listening socket, set in `app`).
"""

import asyncio
import random
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from presence.clock import Clock
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connection, Connections
from presence.controlplane.services.presences import Presences
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.sessions import Sessions
from presence.controlplane.settings import Dispatch
from presence.errors import CloseCode, DatabaseError, ProtocolViolation
from presence.logs import get_logger
from presence.protocol import SUBPROTOCOL
from presence.protocol.codec import Unknown, UnreadableFire
from presence.protocol.messages import (
    AgentMessage,
    Canary,
    CanaryEcho,
    GoAway,
    Hello,
    Holding,
    Paused,
    Ready,
    Welcome,
)
from presence.protocol.session import common_version

SEND_SECONDS = 10.0
END_SECONDS = 1.5
"""For the last messages, and again for the close frame: a key that is revoked is void everywhere within 5 s."""
GREETING_SECONDS = 10.0
SUPERSEDE_SECONDS = 5.0
INBOX = 2000
"""Messages that may wait for the database until reading pauses."""
MAX_HELD = 1_000_000
"""Ids that one session may state in Holding, some 100 MB of memory: ten times an agent's default `max_deliveries`."""
RESTART_DELAY_MS = 2000

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Admits agents and holds their conversations."""

    presences: Presences
    sessions: Sessions
    connections: Connections
    bus: Bus
    clock: Clock
    settings: Dispatch

    async def converse(self, websocket: WebSocket) -> None:
        """One connection, from the handshake to the end."""
        try:
            peer = await self.presences.authenticate(_bearer(websocket))
        except Refusal as refusal:
            _log.warning("agent denied", client=_client(websocket), reason=refusal.message)
            await _deny(websocket, 401, refusal)
            return
        if SUBPROTOCOL not in websocket.scope["subprotocols"]:
            await _deny(websocket, 400, Refusal(Key.INVALID_INPUT, "offer the subprotocol {0}", SUBPROTOCOL))
            return
        if self.connections.draining:
            await _deny(websocket, 503, Refusal(Key.GENERAL_ERROR, "the control plane is restarting; try again"))
            return
        connection = Connection(peer)
        with self.connections.opened(connection):
            await websocket.accept(subprotocol=SUBPROTOCOL)
            await _Conversation(websocket, connection, self).run()
        await self.presences.rotations.left(peer.presence_id)

    async def drain(self, grace: float) -> None:
        """Tells all agents to come back a little later, and waits up to `grace` seconds for their sessions' end."""
        self.connections.draining = True
        connections = self.connections.all()
        for connection in connections:
            delay = random.randrange(RESTART_DELAY_MS)  # noqa: S311 - jitter, no secret
            connection.say(GoAway(reason="restart", delay=delay))
            connection.end(CloseCode.SERVICE_RESTART, "restart")
        try:
            async with asyncio.timeout(grace):
                for connection in connections:
                    await connection.ended.wait()
        except TimeoutError:
            _log.warning("sessions still open at the end of the grace period")


class _Conversation:
    """The loops of one connection."""

    def __init__(self, websocket: WebSocket, connection: Connection, gateway: Gateway) -> None:
        self._websocket = websocket
        self._connection = connection
        self._session = connection.session
        self._peer = connection.peer
        self._gateway = gateway
        self._stated = 0
        self._room = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._nonces: set[str] = set()
        self._alive_at = 0.0

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                loops = {
                    name: group.create_task(loop, name=f"{name} {self._peer.presence_id}")
                    for name, loop in (("read", self._read()), ("write", self._write()), ("canary", self._canary()))
                }
                await self._record()
                # Nothing more is heard from here on, as it would not be recorded.
                loops["read"].cancel()
                loops["canary"].cancel()
                if self._connection.ending is not None and self._connection.ending.ours:
                    # What is queued precedes our close frame, if the agent reads it.
                    await asyncio.wait([loops["write"]], timeout=END_SECONDS)
                loops["write"].cancel()
        finally:
            await self._end()

    async def _read(self) -> None:
        """Frames to the inbox. Ends with the connection."""
        try:
            async with asyncio.timeout(GREETING_SECONDS) as greeting:
                while self._connection.ending is None:
                    message = await self._websocket.receive()
                    if message["type"] == "websocket.disconnect":
                        self._connection.end(message.get("code", 1006), message.get("reason") or "", ours=False)
                        return
                    text = message.get("text")
                    await self._hear(self._session.receive(message["bytes"] if text is None else text))
                    if self._session.hello is not None:
                        greeting.reschedule(None)
        except ProtocolViolation as violation:
            self._connection.end(violation.close_code, violation.reason)
        except TimeoutError:
            self._connection.end(CloseCode.PROTOCOL_ERROR, f"no hello within {GREETING_SECONDS:g} s")

    async def _hear(self, items: Sequence[AgentMessage | Unknown | UnreadableFire]) -> None:
        for item in items:
            if isinstance(item, Unknown):
                _log.info("message of an unknown type ignored", type=item.type, presence=self._peer.presence_id)
            elif not isinstance(item, UnreadableFire):
                self._stated += len(item.ids) if isinstance(item, Holding) else 0
                self._connection.inbox.append(item)
        if self._stated > MAX_HELD:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, f"more than {MAX_HELD} ids held")
        self._connection.heard.set()
        while len(self._connection.inbox) > INBOX:
            self._room.clear()
            await self._room.wait()

    async def _record(self) -> None:
        """The inbox to the database, everything that waits in one transaction. Ends after the last message."""
        connection = self._connection
        try:
            while connection.ending is None or connection.inbox:
                await connection.heard.wait()
                connection.heard.clear()
                connection.recording, connection.inbox = connection.inbox, []
                self._room.set()
                if connection.recording:
                    await self._settle(connection.recording)
                    connection.recording = []
        except DatabaseError as error:
            # What was said is not recorded, so nothing of it was acknowledged: the agent will say it again.
            _log.error("session ended, nothing can be recorded", presence=self._peer.presence_id, error=str(error))
            self._connection.end(CloseCode.SERVICE_RESTART, "the database cannot be used now")

    async def _settle(self, messages: list[AgentMessage]) -> None:
        match messages:
            case [Hello() as hello, *rest]:
                await self._greet(hello)
                messages = rest
        for message in messages:
            match message:
                case Holding():
                    self._connection.holding.update(message.ids)
                case Paused():
                    self._pause(message)
        telling = [message for message in messages if not isinstance(message, CanaryEcho) or self._is_echo(message)]
        for answer in await self._gateway.sessions.record(self._connection, telling):
            self._connection.say(answer)
        if any(isinstance(message, Ready) for message in messages):
            self._connection.reconciled = True
            self._connection.starved = True
            _log.info("agent ready", presence=self._peer.presence_id, instance=self._connection.instance_id)
        if self._connection.starved and self._connection.free_credit > 0:
            self._connection.starved = False
            self._gateway.bus.wake(self._peer.presence_id)

    async def _greet(self, hello: Hello) -> None:
        """Makes this the session of its instance and welcomes it, once an older one has been written off."""
        older = self._gateway.connections.supersede(self._connection)
        if older is not None:
            _log.info("session superseded", presence=self._peer.presence_id, instance=hello.instance)
            try:
                async with asyncio.timeout(SUPERSEDE_SECONDS):
                    await older.ended.wait()
            except TimeoutError:
                _log.warning("the superseded session does not end", presence=self._peer.presence_id)
        if not await self._gateway.sessions.greet(self._peer, hello):
            self._connection.end(CloseCode.KEY_REVOKED, "the presence key was replaced")
            return
        version, settings = common_version(hello), self._gateway.settings
        assert version is not None, "the session checks it"
        canary_every, lease = int(settings.canary_every * 1000), int(settings.lease * 1000)
        now = self._gateway.clock.wall()
        self._connection.say(Welcome(version=version, canary_every=canary_every, lease=lease, server_time=now))
        self._welcomed.set()
        await self._gateway.presences.rotations.greeted(self._connection)
        _log.info(
            "agent connected", presence=self._peer.presence_id, instance=hello.instance, host=hello.host,
            agent_version=hello.agent_version, client=_client(self._websocket),
        )  # fmt: skip

    def _pause(self, message: Paused) -> None:
        self._connection.pause(message.remaining)
        _log.warning(
            "agent resumed" if message.remaining == 0 else "agent paused", presence=self._peer.presence_id,
            instance=self._connection.instance_id, remaining_ms=message.remaining,
        )  # fmt: skip

    def _is_echo(self, echo: CanaryEcho) -> bool:
        """Whether it answers a canary of this session; if so, all earlier ones are forgotten."""
        answered = echo.nonce in self._nonces
        if answered:
            self._nonces.clear()
            self._alive_at = asyncio.get_running_loop().time()
        return answered

    async def _canary(self) -> None:
        """Asks for proof of life from the welcome on; ends the session of one that gives none."""
        await self._welcomed.wait()
        loop = asyncio.get_running_loop()
        self._alive_at = loop.time()
        while self._connection.ending is None:
            if self._gateway.clock.wall() >= self._peer.key_expires_at:
                self._connection.end(CloseCode.KEY_REVOKED, "the presence key has expired")
            elif loop.time() - self._alive_at >= self._gateway.settings.canary_timeout:
                self._connection.end(CloseCode.CANARY_MISSED, "no canary was answered")
            else:
                nonce = secrets.token_hex(8)
                self._nonces.add(nonce)
                self._connection.say(Canary(nonce=nonce))
            await asyncio.sleep(self._gateway.settings.canary_every)

    async def _write(self) -> None:
        """What was said to the wire, until the end is asked for."""
        try:
            while True:
                await self._connection.spoken.wait()
                self._connection.spoken.clear()
                for frame in self._session.outgoing():
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._websocket.send_text(frame)
                if self._connection.ending is not None:
                    return
        except (WebSocketDisconnect, TimeoutError):
            self._connection.end(1006, "the agent does not read", ours=False)

    async def _end(self) -> None:
        """Closes the connection and writes off the session; the order lets a successor begin at once."""
        ending = self._connection.ending
        unanswered = set(self._session.unanswered)
        self._session.close()
        try:
            if self._session.hello is not None:
                violated = ending is not None and ending.is_violation
                await self._gateway.sessions.end(
                    self._peer, self._connection.instance_id, unanswered, violated=violated
                )
        except DatabaseError as error:
            # They stay dispatched until the instance's next session, or the next start, queues them again.
            _log.error("unanswered deliveries not queued again", presence=self._peer.presence_id, error=str(error))
        finally:
            self._connection.ended.set()
        if ending is None:
            return
        _log.info(
            "agent disconnected", presence=self._peer.presence_id, code=int(ending.code), reason=ending.reason,
            by="control plane" if ending.ours else "agent", unanswered=len(unanswered),
        )  # fmt: skip
        if ending.ours:
            with suppress(WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._websocket.close(ending.code, _short(ending.reason))


def _bearer(websocket: WebSocket) -> str:
    scheme, _, key = websocket.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _client(websocket: WebSocket) -> str:
    return websocket.client.host if websocket.client else ""


def _short(reason: str) -> str:
    """A close frame holds 123 bytes of reason."""
    return reason.encode()[:120].decode(errors="ignore")


async def _deny(websocket: WebSocket, status: int, refusal: Refusal) -> None:
    await websocket.send_denial_response(JSONResponse(refusal.body(), status))

"""The link: one loop for the first and every later connection; it never gives up. The only importer of websockets.

    offline -> connecting -> online -> draining

What a failure means: `presence.agent.failures`.
Backoff is random (full jitter) below a bound that doubles from 1 s to 60 s, from the first retry on, and
starts anew only after a connection was up for a minute.
"""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import websockets.asyncio.client as ws
from websockets.typing import Subprotocol

from presence import __version__
from presence.agent.batches import Batches
from presence.agent.failures import EXPECTED, SLOW_RETRY, Cause, Failure, GoneAway, classify, first
from presence.agent.settings import ControlPlane
from presence.clock import Clock
from presence.errors import CloseCode, ProtocolViolation
from presence.logs import get_logger
from presence.protocol import MAX_FRAME_BYTES, SUBPROTOCOL, VERSIONS
from presence.protocol.codec import Unknown, UnreadableFire
from presence.protocol.messages import (
    AgentMessage,
    Canary,
    Cancel,
    Draining,
    Fire,
    GoAway,
    Hello,
    NewKey,
    Ready,
    Release,
    ReportAck,
    Welcome,
)
from presence.protocol.session import AgentSession, SessionState

# A redirect would carry the key elsewhere; 1 means none (0 breaks every connect).
ws.MAX_REDIRECTS = 1

log = get_logger(__name__)

OPEN_TIMEOUT = 20.0
SEND_TIMEOUT = 10.0
FIRST_BACKOFF, LONGEST_BACKOFF, STABLE = 1.0, 60.0, 60.0
KEY_LOOK = 1.0
WAITING = 2000
"""Commands, and acknowledgements, that wait for their stage until nothing more is read."""

Command = Fire | UnreadableFire | Cancel | Release | Canary


class LinkState(StrEnum):
    OFFLINE = "offline"
    CONNECTING = "connecting"
    ONLINE = "online"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the link asks of the journal."""

    instance: str
    next_epoch: Callable[[], Awaitable[int]]
    meet: Callable[[int], Awaitable[None]]
    held: Callable[[], Awaitable[list[str]]]


class Link:
    """Connects, keeps the session, hands commands to `inbox` and acknowledged reports to `acknowledged`.

    `sessions` counts the sessions that were begun; `on_ready` is called whenever one has become ready.
    What a session leaves in `inbox` goes with it: the control plane fires it again.
    """

    def __init__(
        self, settings: ControlPlane, identity: Identity, clock: Clock, credit: int, on_ready: Callable[[], None]
    ) -> None:
        self.inbox: Batches[Command] = Batches()
        self.acknowledged: Batches[str] = Batches()
        self.sessions = 0
        self.state = LinkState.OFFLINE
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._credit = credit
        self._on_ready = on_ready
        self._session: AgentSession | None = None
        self._outgoing = asyncio.Event()
        self._last: Failure | None = None
        self._draining = False
        self._tries = 0
        self._key_seen: tuple[int, int] | None = None
        self._silence = OPEN_TIMEOUT

    @property
    def is_ready(self) -> bool:
        """Whether a session takes answers and reports."""
        return self._session is not None and self._session.state in (SessionState.READY, SessionState.DRAINING)

    def say(self, message: AgentMessage, session: int) -> bool:
        """Queues the message for that session. False if it is not ready, or gone: the journal keeps what is to be said.

        An answer belongs to the session that asked: in a later one it would be taken for the answer to another fire.
        """
        if session != self.sessions or self._session is None or not self.is_ready:
            return False
        self._session.say(message)
        self._outgoing.set()
        return True

    def drain(self) -> None:
        """Asks for no more fires; reports still go out."""
        self._draining = True
        if self.say(Draining(), self.sessions):
            self._change(LinkState.DRAINING)

    async def run(self) -> None:
        """Connects for ever; ends by cancellation, which closes the connection politely."""
        bound = FIRST_BACKOFF
        while True:
            started = self._clock.elapsed()
            failure = await self._connect()
            if self._clock.elapsed() - started > STABLE * 1000:
                bound = FIRST_BACKOFF
            # Whatever the peer asks for, it cannot make us come back faster than the backoff.
            wait = max(failure.wait or 0.0, random.random() * bound)  # noqa: S311 - jitter
            self._change(LinkState.OFFLINE, failure, wait)
            await self._pause(wait, failure)
            bound = min(bound * 2, LONGEST_BACKOFF)

    async def _connect(self) -> Failure:
        """One connection from dialling to its end; a fresh connection object, name resolution and key each time."""
        self._change(LinkState.CONNECTING)
        try:
            self._key_seen = _signature(self._settings.credential_file())
            key = self._settings.read_key()
            async with asyncio.timeout(OPEN_TIMEOUT):
                connection = await ws.connect(
                    self._settings.address(),
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    additional_headers={"Authorization": f"Bearer {key}"},
                    user_agent_header=f"Presence/{__version__}",
                    compression=None,
                    max_size=MAX_FRAME_BYTES,
                    proxy=None,
                    ping_interval=20,
                    ping_timeout=10,
                    open_timeout=None,
                    close_timeout=5,
                )
        except EXPECTED as error:
            return classify(error)
        try:
            if connection.subprotocol != SUBPROTOCOL:
                return Failure(Cause.UPGRADE, f"the server does not speak {SUBPROTOCOL}; check control_plane.url")
            return await self._converse(connection)
        finally:
            self._session = None
            self.inbox.clear()
            await _close(connection)

    async def _converse(self, connection: ws.ClientConnection) -> Failure:
        hello = await self._hello()
        self.sessions += 1
        self._session = session = AgentSession(hello)
        self._silence = OPEN_TIMEOUT
        self._outgoing.set()
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._write(connection, session), name="link-write")
                await self._read(connection, session)
        except ExceptionGroup as group:
            error = first(group)
            if isinstance(error, ProtocolViolation):
                await _close(connection, error.close_code, error.reason)
            elif not isinstance(error, EXPECTED):
                raise
            return classify(error)
        raise AssertionError("a session ends with a failure")

    async def _hello(self) -> Hello:
        return Hello(
            versions=VERSIONS,
            instance=self._identity.instance,
            epoch=await self._identity.next_epoch(),
            credit=self._credit,
            agent_version=__version__,
            host=socket.gethostname()[:256],
            platform="linux_x64",
        )

    async def _write(self, connection: ws.ClientConnection, session: AgentSession) -> None:
        while True:
            await self._outgoing.wait()
            frames = session.outgoing()
            for frame in frames:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await connection.send(frame)
            if session.idle:
                self._outgoing.clear()

    async def _read(self, connection: ws.ClientConnection, session: AgentSession) -> None:
        while True:
            async with asyncio.timeout(self._silence):
                frame = await connection.recv()
            # A peer that says more than we can take is not read: the memory is bounded whatever it sends.
            await self.inbox.room(WAITING)
            await self.acknowledged.room(WAITING)
            for message in session.receive(frame):
                if isinstance(message, Welcome):
                    await self._state_holding(message, session)
                else:
                    self._take(message)

    def _take(self, message: Any) -> None:
        match message:
            case Fire() | UnreadableFire() | Cancel() | Release() | Canary():
                self.inbox.put(message)
            case ReportAck(id=delivery):
                self.acknowledged.put(delivery)
            case GoAway():
                raise GoneAway(message)
            case NewKey():
                log.warning("key offered, but this version does not rotate keys", remedy="install the key by hand")
            case Unknown(type=kind):
                log.warning("unknown message ignored", type=kind)

    async def _state_holding(self, welcome: Welcome, session: AgentSession) -> None:
        self._silence = max(OPEN_TIMEOUT, 3 * welcome.canary_every / 1000)
        await self._identity.meet(welcome.server_time)
        session.hold(await self._identity.held())
        session.say(Ready())
        self._outgoing.set()
        self._change(LinkState.ONLINE)
        if self._draining:
            self.drain()
        self._on_ready()

    async def _pause(self, wait: float, failure: Failure) -> None:
        """Waits; a key file other than the one that was tried ends the wait for a better key."""
        file = self._settings.credential_file() if failure.cause is Cause.AUTH else None
        if file is None:
            await asyncio.sleep(wait)
            return
        tried, until = self._key_seen, self._clock.elapsed() + wait * 1000
        while self._clock.elapsed() < until and _signature(file) == tried:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(KEY_LOOK)

    def _change(self, state: LinkState, failure: Failure | None = None, wait: float = 0.0) -> None:
        """The one setter of the state; one log line for each change that says something new."""
        self.state = state
        if state is LinkState.CONNECTING:
            self._tries += 1
            log.debug("link", state=state.value, url=self._settings.address())
            return
        if failure is None:
            log.info("link", state=state.value, url=self._settings.address(), tries=self._tries)
            self._last, self._tries = None, 0
            return
        loud = log.error if failure.wait == SLOW_RETRY else log.warning
        line = log.debug if failure == self._last else loud
        line("link", state=state.value, cause=failure.cause.value, reason=failure.reason, retry_in=round(wait, 1))
        self._last = failure


def _signature(file: Path | None) -> tuple[int, int] | None:
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


async def _close(connection: ws.ClientConnection, code: int = CloseCode.GOING_AWAY, reason: str = "") -> None:
    """Closes within a bound; a peer that does not answer is cut off."""
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            await connection.close(code, reason[:100])
    except TimeoutError:
        connection.transport.abort()

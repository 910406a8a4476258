"""One session over one open websocket: its two directions, and the patience with a peer that says too little.

Every wait is bounded: the welcome, what follows the statement of what is held, each canary, each frame that is sent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from presence.agent.ends import Silent, first
from presence.agent.opening import Websocket, close
from presence.errors import ProtocolViolation
from presence.protocol.codec import Unknown, UnreadableFire
from presence.protocol.messages import AgentMessage, Canary, ControlPlaneMessage, Hello, Ready, Welcome
from presence.protocol.session import AGENT_SAYS, AgentSession, SessionState

Heard = ControlPlaneMessage | Unknown | UnreadableFire
Hear = Callable[[list[Heard]], Awaitable[None]]
"""Takes what came together."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `reconciled`: after the statement of what is held was sent; `slack`: beyond two canary intervals."""

    welcome: float = 20.0
    reconciled: float = 20.0
    slack: float = 5.0
    send: float = 10.0


PATIENCE = Patience()


class Conversation:
    """Says Hello first. `say` what the state allows; `run` hands on what is heard until the connection ends."""

    def __init__(self, connection: Websocket, hello: Hello, patience: Patience) -> None:
        self._connection = connection
        self._session = AgentSession(hello)
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._outgoing = asyncio.Event()
        self._outgoing.set()
        self._greeted_at = self._loop.time()
        self._canary_interval = 0.0
        self._due = {"welcome": self._loop.time() + patience.welcome}
        """What must be heard, and until when, in the event loop's time."""
        self._expecting = asyncio.Event()

    @property
    def state(self) -> SessionState:
        return self._session.state

    @property
    def patience(self) -> float:
        """Seconds until the control plane must have said something, or the conversation ends."""
        return min(self._due.values()) - self._loop.time()

    @property
    def greeted_ago(self) -> float:
        """Seconds since Hello was sent."""
        return self._loop.time() - self._greeted_at

    def say(self, message: AgentMessage) -> bool:
        """Queues the message; False if the session's state does not allow it."""
        if not isinstance(message, AGENT_SAYS[self._session.state]):
            return False
        self._session.say(message)
        if isinstance(message, Ready):
            self._expect("reconciled", None)
        self._outgoing.set()
        return True

    def hold(self, ids: list[str], unattempted: set[str]) -> None:
        """States what is held, and which of it had no attempt."""
        self._session.hold(ids, unattempted)
        self._expect("reconciled", self._patience.reconciled)
        self._outgoing.set()

    async def run(self, hear: Hear) -> NoReturn:
        """Raises what ended it. Who broke the protocol is told so, who is silent is cut off."""
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._write(), name="link-write")
                directions.create_task(self._watch(), name="link-watch")
                await self._read(hear)
        except ExceptionGroup as group:
            error = first(group)
        match error:
            case ProtocolViolation(close_code=code, reason=reason):
                await close(self._connection, code, reason)
            case Silent():
                # Nobody listens there: a polite goodbye would only take time.
                self._connection.transport.abort()
        raise error

    async def _read(self, hear: Hear) -> NoReturn:
        while True:
            messages = self._session.receive(await self._connection.recv())
            for message in messages:
                match message:
                    case Welcome(canary_every=every):
                        self._canary_interval = every / 1000
                        self._expect("welcome", None)
                        self._expect_canary()
                    case Canary():
                        self._expect_canary()
            await hear(messages)

    async def _watch(self) -> NoReturn:
        """Ends the connection when what must be heard was not."""
        while (left := min(self._due.values()) - self._loop.time()) > 0:
            self._expecting.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._expecting.wait()
        raise Silent(self._missed())

    async def _write(self) -> NoReturn:
        while True:
            await self._outgoing.wait()
            for frame in self._session.outgoing():
                try:
                    async with asyncio.timeout(self._patience.send):
                        await self._connection.send(frame)
                except TimeoutError:
                    raise Silent("the control plane does not read what is sent") from None
                if self._session.state is SessionState.GREETING:
                    self._greeted_at = self._loop.time()
                elif "reconciled" in self._due:
                    # A long statement takes its time on a slow line.
                    self._expect("reconciled", self._patience.reconciled)
            if self._session.idle:
                self._outgoing.clear()

    def _expect_canary(self) -> None:
        self._expect("canary", 2 * self._canary_interval + self._patience.slack)

    def _expect(self, what: str, seconds: float | None) -> None:
        """It must be heard within so many seconds; None: no more."""
        if seconds is None:
            self._due.pop(what, None)
        else:
            self._due[what] = self._loop.time() + seconds
        self._expecting.set()

    def _missed(self) -> str:
        what = min(self._due, key=lambda name: self._due[name])
        if what == "canary":
            return f"no canary for {2 * self._canary_interval + self._patience.slack:g} s"
        return f"the control plane did not say '{what}' in time"

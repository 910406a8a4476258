"""The link: one loop for the first and every later connection; it never gives up.

    offline -> connecting -> online -> draining

`opening` makes a connection, `conversation` holds the session on it, `failures` says what its end means, `backoff`
when the next one is tried, `link_state` what is told of all this. Here is their order, and what the session means
for the rest of the agent. Every try is fresh: key, settings' files, name, addresses, proxy, connection.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace

from presence.agent.backoff import STABLE, Backoff
from presence.agent.batches import Batches
from presence.agent.conversation import PATIENCE, Conversation, Heard, Patience
from presence.agent.ends import EXPECTED, Cause, Failure, GoneAway, Leapt, Renewed, Retry, first
from presence.agent.failures import classify
from presence.agent.files import signatures
from presence.agent.identity import JOURNAL_SECONDS, Identity, Listener
from presence.agent.keys import Key, Keys
from presence.agent.link_state import Chronicle, LinkState, LinkStatus
from presence.agent.names import Resolver
from presence.agent.opening import OPENING_SECONDS, Opening, Websocket, close
from presence.agent.pulse import Pulse
from presence.agent.settings import ControlPlane
from presence.agent.vigil import Vigil, clock_offset
from presence.clock import Clock
from presence.errors import CloseCode
from presence.logs import get_logger
from presence.protocol.codec import Unknown, UnreadableFire
from presence.protocol.messages import (
    AgentMessage,
    Canary,
    Cancel,
    Draining,
    Fire,
    GoAway,
    NewKey,
    Ready,
    Reconciled,
    Release,
    ReportAck,
    Welcome,
)
from presence.protocol.session import SessionState

log = get_logger(__name__)

FILES_LOOK = 1.0
FIRST_WORD = 20.0
"""Seconds that the agent waits at its start for the control plane's word on what it holds."""
STORE_SECONDS = 10.0
TURN_SECONDS = 30.0
"""Within so many beyond its bounded waits the link is back: it closes connections, and hands on what it heard."""
WAITING = 2000
"""Commands, and acknowledgements, that wait for their stage until nothing more is read."""

Command = Fire | UnreadableFire | Cancel | Release | Canary | Reconciled


class Link:
    """Connects, keeps the session, hands commands to `inbox` and acknowledged reports to `acknowledged`.

    `sessions` counts the sessions that were begun. What a session leaves in `inbox` goes with it: the control plane
    fires it again. Who takes `Reconciled` from `inbox` calls `agreed` once the cancels before it are committed.
    """

    def __init__(
        self,
        settings: ControlPlane,
        identity: Identity,
        keys: Keys,
        clock: Clock,
        listener: Listener,
        patience: Patience = PATIENCE,
    ) -> None:
        self.inbox: Batches[Command] = Batches()
        self.acknowledged: Batches[str] = Batches()
        self.sessions = 0
        self._settings = settings
        self._identity = identity
        self._keys = keys
        self._clock = clock
        self._listener = listener
        self._patience = patience
        self._chronicle = Chronicle(clock, settings.address(), listener.changed)
        self._backoff = Backoff()
        self._vigil = Vigil(clock)
        self._resolver = Resolver()
        self._connection: Websocket | None = None
        self._conversation: Conversation | None = None
        self._key: Key | None = None
        self._seen: list[object] = []
        self._online_at: int | None = None
        self._draining = False
        self.pulse = Pulse("link")

    @property
    def is_ready(self) -> bool:
        """Whether a session takes answers and reports."""
        state = self._conversation.state if self._conversation is not None else None
        return state in (SessionState.READY, SessionState.DRAINING)

    @property
    def state(self) -> LinkState:
        return self._chronicle.state

    def status(self) -> LinkStatus:
        """What is known of the link now."""
        return self._chronicle.status()

    @property
    def changes(self) -> Mapping[LinkState, int]:
        """How often each state was entered since the start."""
        return self._chronicle.changes

    @property
    def failures(self) -> Mapping[Cause, int]:
        """What ended connections, or kept them from coming about, since the start."""
        return self._chronicle.failures

    def say(self, message: AgentMessage, session: int) -> bool:
        """Queues the message for that session. False if it cannot be said there: the journal keeps what is to be said.

        An answer belongs to the session that asked: in a later one it would be taken for the answer to another fire.
        """
        return session == self.sessions and self._conversation is not None and self._conversation.say(message)

    def agreed(self, session: int) -> None:
        """All that the control plane said before its Reconciled is in the journal: fires may come."""
        if self.say(Ready(), session):
            self._chronicle.online()
            self._online_at = self._clock.elapsed()
            self._listener.reconciling(False)
            if self._draining:
                self.drain()
            self._listener.ready()

    def drain(self) -> None:
        """Asks for no more fires; reports still go out."""
        self._draining = True
        if self.say(Draining(), self.sessions):
            self._chronicle.draining()

    async def run(self) -> None:
        """Connects for ever; ends by cancellation, which closes the connection politely.

        What was held before is not attempted until the first try has shown whether another instance has it meanwhile.
        """
        self._listener.reconciling(True)
        self._go_on = asyncio.get_running_loop().call_later(FIRST_WORD, self._listener.reconciling, False)
        try:
            while True:
                self.pulse.promise(JOURNAL_SECONDS + OPENING_SECONDS + self._patience.welcome + TURN_SECONDS)
                failure = await self._try()
                _heed_cancellation()
                self._go_on.cancel()
                self._listener.reconciling(False)
                stable = self._online_at is not None and self._clock.elapsed() - self._online_at >= STABLE * 1000
                if stable:
                    self._backoff.reset()
                wait = self._backoff.next(failure, random.random())  # noqa: S311 - jitter
                self._chronicle.offline(failure, wait, stable)
                self.pulse.promise(wait + TURN_SECONDS)
                await self._pause(wait, failure)
        finally:
            self._go_on.cancel()
            self._resolver.close()

    async def _try(self) -> Failure:
        """One connection from its key to its end."""
        self._chronicle.connecting()
        self._online_at, self._key = None, None
        self._seen = signatures(self._settings.named_files())
        opening = Opening(self._settings, self._resolver, self._clock, self._chronicle.clock_offset)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._end_when_time_leaps(), name="link-vigil")
                self._key = self._keys.current()
                await self._connect(opening, self._key)
        except ExceptionGroup as group_of_errors:
            error = first(group_of_errors)
            if not isinstance(error, EXPECTED):
                raise
        failure = classify(error, opening.step, opening.place)
        other = self._keys.refuse(self._key) if failure.cause is Cause.AUTH and self._key is not None else None
        if other is not None and self._key is not None:
            reason = f"{self._key.origin}: {failure.reason}; {other.origin} is tried"
            return replace(failure, reason=reason, retry=Retry.AT_ONCE)
        return failure

    async def _end_when_time_leaps(self) -> None:
        event = await self._vigil.leapt()
        if self._connection is not None:
            # Nobody can be expected at its other end: a polite goodbye would only take time.
            self._connection.transport.abort()
        raise Leapt(event)

    async def _connect(self, opening: Opening, key: Key) -> None:
        """Holds a session until something ends it, which is raised."""
        hello = await self._identity.hello()
        self._connection = connection = await opening.run(key)
        try:
            self.sessions += 1
            self._conversation = Conversation(connection, hello, self._patience)
            await self._conversation.run(self._hear)
        finally:
            self._conversation = self._connection = None
            self.inbox.clear()
            await close(connection, CloseCode.GOING_AWAY)

    async def _hear(self, messages: list[Heard]) -> None:
        for message in messages:
            await self._take(message)
        if self._conversation is not None:
            self.pulse.promise(max(0.0, self._conversation.patience) + TURN_SECONDS)
        # A peer that says more than we can take is not read: the memory is bounded whatever it sends.
        await self.inbox.room(WAITING)
        await self.acknowledged.room(WAITING)

    async def _take(self, message: Heard) -> None:
        match message:
            case Welcome():
                await self._state_holding(message)
            case Canary():
                self._chronicle.canary()
                self.inbox.put(message)
            case Fire() | UnreadableFire() | Cancel() | Release() | Reconciled():
                self.inbox.put(message)
            case ReportAck(id=delivery):
                self.acknowledged.put(delivery)
            case GoAway():
                raise GoneAway(message)
            case NewKey(key=key):
                await self._renew(key)
            case Unknown(type=kind):
                log.warning("unknown message ignored", type=kind)

    async def _state_holding(self, welcome: Welcome) -> None:
        assert self._conversation is not None
        round_trip = int(self._conversation.greeted_ago * 1000)
        self._chronicle.met(clock_offset(welcome.server_time, self._clock.wall(), round_trip))
        self._go_on.cancel()
        self._listener.reconciling(True)
        await self._identity.meet(welcome.server_time)
        paused = self._identity.paused()
        if paused is not None:
            self._conversation.say(paused)
        self._conversation.hold(*await self._identity.held())

    async def _renew(self, key: str) -> None:
        """Stores the key, and ends the session so that the next one begins with it."""
        if self._key is not None and key == self._key.value:
            return
        if not self._keys.takes(key):
            log.error("the new key is not used: it was refused before, or no header can carry it")
            return
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await asyncio.to_thread(self._keys.store, key)
        except OSError as error:
            log.error("the new key cannot be stored; the old one stays in use", reason=error.strerror or "no answer")
            return
        raise Renewed

    async def _pause(self, wait: float, failure: Failure) -> None:
        """Waits. Time that leaps ends the wait, and so does a change of a named file where a person must act."""
        if wait == 0.0:
            return
        wakers = [asyncio.create_task(self._vigil.leapt(), name="link-vigil")]
        if failure.retry in (Retry.RARELY, Retry.SLOWLY):
            wakers.append(asyncio.create_task(self._files_changed(), name="link-files"))
        try:
            done, _ = await asyncio.wait(wakers, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for waker in done:
                log.info("link", state=self.state.value, reason=f"{waker.result()}; trying now")
        finally:
            for waker in wakers:
                waker.cancel()
            await asyncio.gather(*wakers, return_exceptions=True)

    async def _files_changed(self) -> str:
        while signatures(self._settings.named_files()) == self._seen:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(FILES_LOOK)
        return "a file that the settings name has changed"


def _heed_cancellation() -> None:
    """Raises what a TaskGroup of Python before 3.13 loses: it was cancelled while a child of it had just failed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

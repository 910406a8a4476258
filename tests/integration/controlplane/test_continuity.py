"""Events without a pause, while sessions end in every way that is not a crash: nothing is lost, nothing sent twice."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from presence.controlplane.app import InitResult, serving
from presence.controlplane.settings import ControlPlaneSettings
from presence.domain.delivery import FinalState
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    Attempted,
    Busy,
    Cancel,
    Draining,
    Fire,
    Report,
    ReportAck,
)
from presence.protocol.session import SessionState
from tests.integration.controlplane.peers import Agent, Caller, cloud_event

EVENTS = 120
CREDIT = 8


class Persistent:
    """An agent whose journal outlives its sessions. `requests`: what the target got."""

    def __init__(self, key: str) -> None:
        self.instance, self.run, self.key = str(uuid4()), str(uuid4()), key
        self.pending: set[str] = set()
        self.finished: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.sessions = 0
        self.live: set[Agent] = set()
        """Two while one takes the place of the other."""
        self.news = asyncio.Event()
        """Set when a session has begun or something was heard."""

    async def report(self) -> None:
        """Reports what is pending, perhaps not for the first time."""
        for agent in list(self.live):
            with contextlib.suppress(ConnectionClosed):
                await agent.say(*(self._work(id_) for id_ in sorted(self.pending)))

    async def cut(self) -> None:
        """The line is cut."""
        for agent in self.live:
            agent.socket.transport.abort()

    async def drain(self) -> None:
        """It stops in order, and starts again."""
        for agent in list(self.live):
            if agent.session.state is SessionState.READY:
                with contextlib.suppress(ConnectionClosed):
                    await agent.say(Draining())

    async def connect(self, url: str) -> None:
        """One session, until it ends."""
        agent = Agent(
            url, self.key, instance=self.instance, run=self.run, credit=CREDIT, held=sorted(self.pending),
            unattempted=sorted(self.pending - self.requests.keys()),
        )  # fmt: skip
        with contextlib.suppress(ConnectionClosed, InvalidStatus, ConnectionError):
            async with agent:
                # What was reported and not acknowledged has ended, as far as the control plane knows.
                assert {message.id for message in agent.before_ready} <= self.requests.keys()
                self.sessions += 1
                self.live.add(agent)
                try:
                    await self._work_through(agent)
                finally:
                    self.live.discard(agent)

    async def _work_through(self, agent: Agent) -> None:
        await self.report()
        self.news.set()
        while True:
            message = await agent.expect(Fire | Cancel | ReportAck)  # type: ignore[arg-type]
            is_draining = agent.session.state is SessionState.DRAINING
            if isinstance(message, Fire):
                await agent.say(*self._take(message.id, is_draining=is_draining))
            elif isinstance(message, ReportAck):
                self.pending.discard(message.id)
                self.finished.add(message.id)
            elif isinstance(message, Cancel):
                assert message.id in self.requests, "what has no attempt is cancelled by nobody"
            self.news.set()
            if is_draining and agent.waiting(Fire) == []:
                await agent.socket.close()

    def _take(self, delivery: str, *, is_draining: bool) -> list[AgentMessage]:
        if is_draining and delivery not in self.pending:
            return [Busy(id=delivery, reason="draining", retry_in=0)]
        assert delivery not in self.finished
        self.pending.add(delivery)
        return [Accepted(id=delivery), self._work(delivery)]

    def _work(self, delivery: str) -> AgentMessage:
        """Every third one needs a second session, or until the end, to be reported."""
        is_first = delivery not in self.requests
        self.requests[delivery] += is_first
        if is_first and int(delivery[:8], 16) % 3 == 0:
            return Attempted(ids=(delivery,))
        return Report(id=delivery, state=FinalState.SUCCEEDED, reason="delivered", attempts=1, settled_ago=0)


class Plane:
    """A control plane that can be started again, on another port."""

    def __init__(self, settings: ControlPlaneSettings) -> None:
        self._settings = settings
        self._url: str | None = None
        self._running = contextlib.AsyncExitStack()
        self.up = asyncio.Event()

    @property
    def url(self) -> str:
        return self._url or ""

    async def start(self) -> None:
        self._url = await self._running.enter_async_context(serving(self._settings))
        self.up.set()

    async def stop(self) -> None:
        self.up.clear()
        await self._running.aclose()


@pytest.fixture
async def plane(settings: ControlPlaneSettings, administrator: InitResult) -> AsyncIterator[Plane]:
    plane = Plane(settings)
    await plane.start()
    yield plane
    await plane.stop()


async def restart(plane: Plane) -> None:
    await plane.stop()
    await plane.start()


async def staying_connected(plane: Plane, agent: Persistent) -> None:
    while True:
        await plane.up.wait()
        await agent.connect(plane.url)


async def posted(plane: Plane, caller: Caller, number: int) -> None:
    """The event is accepted, if need be by the control plane that is started next."""
    event = cloud_event(f"subject-{number}")
    while True:
        await plane.up.wait()
        with contextlib.suppress(aiohttp.ClientError):
            async with caller.http.post(f"{plane.url}/api/v4/Events", json=event, headers=caller.headers) as answer:
                assert answer.status in (200, 201), "a repeat gives what the first call gave"
                return


@pytest.mark.parametrize("disturbance", ["superseded", "cut", "drained", "restarted"])
async def test_events_without_a_pause(
    plane: Plane, administrator: InitResult, http: aiohttp.ClientSession, disturbance: str
) -> None:
    caller = Caller(plane.url, http)
    await caller.log_in(administrator.key_id, administrator.key_secret)
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    agent = Persistent(key)
    disturb = {
        "superseded": lambda: agent.connect(plane.url),
        "cut": agent.cut,
        "drained": agent.drain,
        "restarted": lambda: restart(plane),
    }[disturbance]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(staying_connected(plane, agent))]
        for number in range(EVENTS):
            if number % 15 == 14:
                running.append(group.create_task(disturb()))
            await posted(plane, caller, number)
        async with asyncio.timeout(20):
            while len(agent.finished) < EVENTS:
                agent.news.clear()
                await agent.report()
                await agent.news.wait()
        for task in running:
            task.cancel()
    caller.url = plane.url
    assert {entry["State"] for entry in await caller.deliveries()} == {"succeeded"}
    assert agent.requests == dict.fromkeys(agent.finished, 1)
    assert agent.sessions > 1

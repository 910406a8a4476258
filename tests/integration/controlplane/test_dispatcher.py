"""The dispatch loop on a real database: what was given to a connected agent is said, or queued again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from presence.clock import SystemClock
from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.app import InitResult
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connection, Connections
from presence.controlplane.dispatch import Dispatcher
from presence.controlplane.leases import Leases
from presence.controlplane.metrics import Metrics
from presence.controlplane.sealing import Sealer
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store import deliveries, events, presences, queue, sweep
from presence.controlplane.store.engine import Database, open_database
from presence.domain.delivery import DeliveryState
from presence.errors import CloseCode, DatabaseError
from presence.protocol.codec import encode
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    Hello,
    Ready,
    Reconciled,
    Stated,
    Welcome,
)
from presence.tracing import UNTRACED
from tests.integration.controlplane.store.rows import EVENT, new_delivery

PRESENCE = str(uuid4())


@pytest.fixture
async def database(settings: ControlPlaneSettings, administrator: InitResult) -> AsyncIterator[Database]:
    async with open_database(settings.database) as database:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await presences.add(transaction, administrator.organization_id, PRESENCE, "office", 0)
            await events.add(transaction, administrator.organization_id, EVENT)
        yield database


@pytest.fixture
def peer(administrator: InitResult) -> Peer:
    return Peer(administrator.organization_id, PRESENCE, "key", 0)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("presence.controlplane.dispatch.POLL_SECONDS", 0.02)


def ready(peer: Peer, credit: int = 9) -> Connection:
    connection = Connection(peer)
    hello = Hello(versions=(1,), instance=str(uuid4()), epoch=1, run=str(uuid4()), credit=credit, agent_version="1")
    hear(connection, hello)
    connection.say(Welcome(version=1, canary_every=1, lease=1, server_time=1))
    hear(connection, Stated())
    connection.say(Reconciled())
    hear(connection, Ready())
    connection.reconciled = True
    return connection


def hear(connection: Connection, message: AgentMessage) -> None:
    for frame in encode([message]):
        connection.session.receive(frame)


async def queued(database: Database, peer: Peer, count: int, host: str = "x:80") -> list[str]:
    ids = sorted(str(uuid4()) for _ in range(count))
    now, hook = SystemClock().wall(), str(uuid4())
    rows = [
        new_delivery(id_, webhook_id=hook, presence_id=PRESENCE, host=host, created_at=now, expires_at=now + 60_000)
        for id_ in ids
    ]
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.add(transaction, peer.organization_id, rows)
    return ids


async def states(database: Database, peer: Peer, ids: list[str]) -> dict[str, tuple[DeliveryState, str | None]]:
    async with database.read(EVERY_ORGANIZATION) as transaction:
        found = await deliveries.standings(transaction, peer, ids)
    return {id_: (standing.state, standing.instance_id) for id_, standing in found.items()}


async def said(connection: Connection, ids: list[str]) -> None:
    """Returns when these fires were said and not answered."""
    while not connection.session.unanswered >= set(ids):
        connection.spoken.clear()
        await connection.spoken.wait()


@asynccontextmanager
async def dispatching(database: Database, connections: Connections) -> AsyncIterator[None]:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        sealer = Sealer({}, Path("none"))
        dispatcher = Dispatcher(database, SystemClock(), Bus(), connections, Leases(60), sealer, Metrics(), UNTRACED)
        running = group.create_task(dispatcher.run())
        yield
        running.cancel()


async def test_a_batch_that_comes_too_late_keeps_no_other_from_being_said(
    database: Database, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, ending, living = Connections(), ready(peer), ready(peer)
    living.spoken.clear()
    dispatch = queue.dispatch

    async def dispatch_at_the_end(*arguments: object) -> None:
        await dispatch(*arguments)  # type: ignore[arg-type]
        ending.end(CloseCode.NORMAL, "too late")

    async def fail(*arguments: object) -> None:
        raise DatabaseError("the disk is full")

    async def find_none(*arguments: object) -> list[object]:
        return []

    monkeypatch.setattr(sweep, "dispatched", find_none)
    monkeypatch.setattr(queue, "dispatch", dispatch_at_the_end)
    monkeypatch.setattr(deliveries, "requeue_dispatched", fail)
    ids = await queued(database, peer, 4)
    with connections.opened(ending), connections.opened(living):
        # The first in order is the one that is given its batch first: it ends before anything is said.
        monkeypatch.setattr(connections, "ready", lambda _: [seat for seat in (ending, living) if seat.free_credit])
        async with dispatching(database, connections):
            await living.spoken.wait()
            found = await states(database, peer, ids)
    assert ending.session.unanswered == set()
    assert living.session.unanswered == {id_ for id_, (_, owner) in found.items() if owner == living.instance_id}
    assert len(living.session.unanswered) == 2


async def test_what_was_dispatched_and_never_said_is_queued_again(database: Database, peer: Peer) -> None:
    connections, connection = Connections(), ready(peer)
    ids = await queued(database, peer, 2)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await queue.dispatch(transaction, peer, connection.instance_id, ids, 1)
    with connections.opened(connection):
        async with dispatching(database, connections):
            await said(connection, ids)


async def test_what_was_answered_and_is_not_recorded_yet_stays(database: Database, peer: Peer) -> None:
    connections, connection = Connections(), ready(peer)
    ids = await queued(database, peer, 3)
    with connections.opened(connection):
        async with dispatching(database, connections):
            await said(connection, ids)
            connection.inbox.append(Accepted(id=ids[0]))
            connection.recording.append(Accepted(id=ids[1]))
            for id_ in ids[:2]:
                hear(connection, Accepted(id=id_))
            await asyncio.sleep(0.3)  # many sweeps
            assert {state for state, _ in (await states(database, peer, ids)).values()} == {"dispatched"}
            connection.inbox.clear()
            await said(connection, ids[:1])
            assert connection.session.unanswered == {ids[0], ids[2]}

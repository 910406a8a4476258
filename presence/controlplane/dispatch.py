"""Queued deliveries to connected agents: one loop, woken by the bus, with a slow poll behind it.

What is claimed is `dispatched` in the database before the fire is said, so a crash between the two
loses nothing: the start of the program, or the end of the session, queues it again.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

from presence.clock import Clock
from presence.controlplane.access import Peer
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connection, Connections
from presence.controlplane.store import deliveries, holds, sweep
from presence.controlplane.store.deliveries import Due
from presence.controlplane.store.engine import Database
from presence.domain.webhook import Method, OnUnknown
from presence.errors import DatabaseError
from presence.logs import get_logger
from presence.protocol.messages import Fire
from presence.protocol.session import ControlPlaneSession

POLL_SECONDS = 1.0
CLAIM = 500
"""Deliveries in one claim: it bounds the time of the transaction."""

_log = get_logger(__name__)


class Seat(Protocol):
    """What `assign` asks of a connection."""

    @property
    def session(self) -> ControlPlaneSession: ...

    @property
    def free_credit(self) -> int: ...


S = TypeVar("S", bound=Seat)


def assign(due: Sequence[Due], seats: Sequence[S]) -> list[tuple[S, list[Due]]]:
    """Who gets what: always the seat with the fewest unanswered, within its credit.

    A suspect goes alone to a seat with nothing unanswered; while there is none, the least busy seat
    gets nothing at all, so that it becomes free.
    """
    load = {id(seat): len(seat.session.unanswered) for seat in seats}
    given: dict[int, list[Due]] = {id(seat): [] for seat in seats}
    free = list(seats)
    for suspect in (delivery for delivery in due if delivery.suspect):
        if not free:
            break
        seat = min(free, key=lambda seat: load[id(seat)])
        free.remove(seat)
        if load[id(seat)] > 0:
            break
        given[id(seat)].append(suspect)
    for delivery in (delivery for delivery in due if not delivery.suspect):
        free = [seat for seat in free if len(given[id(seat)]) < seat.free_credit]
        if not free:
            break
        seat = min(free, key=lambda seat: load[id(seat)])
        load[id(seat)] += 1
        given[id(seat)].append(delivery)
    return [(seat, given[id(seat)]) for seat in seats if given[id(seat)]]


class Dispatcher:
    """`run` is the loop; it ends only by cancellation or by an error that nobody understands."""

    def __init__(self, database: Database, clock: Clock, bus: Bus, connections: Connections) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus
        self._connections = connections

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        swept_at = loop.time()
        while True:
            woken = await self._bus.wait(POLL_SECONDS)
            try:
                if loop.time() - swept_at >= POLL_SECONDS:
                    swept_at = loop.time()
                    woken |= await self._sweep()
                for presence_id in woken:
                    await self._serve(presence_id)
            except DatabaseError as error:
                # Nothing is lost: what is queued stays queued, and the next sweep finds it.
                _log.error("nothing can be dispatched", error=str(error))

    async def _sweep(self) -> set[str]:
        """What time alone brings about: expiry, ended leases, deliveries whose wait is over."""
        now, presences = self._clock.wall(), self._connections.presences()
        async with self._database.read() as transaction:
            has_expired = await sweep.has_expired(transaction, now)
            abandoned = await sweep.abandoned(transaction, presences, now)
            woken = await sweep.presences_with_due(transaction, presences, now)
            dispatched = await sweep.dispatched(transaction, presences)
        # Between the read and this no fire was said, as only this loop says any.
        unsaid = self._unsaid(dispatched)
        if has_expired:
            async with self._database.write() as transaction:
                count = await sweep.expire(transaction, now)
            _log.warning("deliveries expired while they waited", count=count)
        if unsaid:
            async with self._database.write() as transaction:
                await sweep.requeue_unsaid(transaction, unsaid)
            _log.warning("deliveries that were dispatched and never said are queued again", count=len(unsaid))
            woken.update(presence_id for presence_id, _, _ in unsaid)
        for presence_id, instance_id in abandoned:
            # Leases are wall clock, which jumps; a session is proof of life, whatever the lease says.
            connected = self._connections.instances(presence_id)
            if connected and instance_id not in connected:
                await self._take_over(presence_id, instance_id, now)
                woken.add(presence_id)
        return woken

    def _unsaid(self, dispatched: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """Those that an instance which is connected here was to get, and that no session has under way."""
        presences = {presence_id for presence_id, _, _ in dispatched}
        connected = {presence_id: self._connections.instances(presence_id) for presence_id in presences}
        under_way = {presence_id: self._connections.under_way(presence_id) for presence_id in presences}
        return [row for row in dispatched if row[1] in connected[row[0]] and row[2] not in under_way[row[0]]]

    async def _take_over(self, presence_id: str, instance_id: str, now: int) -> None:
        async with self._database.write() as transaction:
            count = await sweep.requeue_abandoned(transaction, presence_id, instance_id, now)
        _log.warning("lease ended, deliveries queued again", presence=presence_id, instance=instance_id, count=count)

    async def _serve(self, presence_id: str) -> None:
        """Claims for one presence, up to its credit, and fires."""
        seats = self._connections.ready(presence_id)
        if not seats:
            self._connections.starve(presence_id)
            return
        peer, now = seats[0].peer, self._clock.wall()
        limit = min(CLAIM, sum(seat.free_credit for seat in seats))
        async with self._database.write() as transaction:
            due = await deliveries.due(transaction, peer, now, limit)
            paused = {delivery.webhook_id for delivery in due if delivery.paused}
            if paused:
                # They were queued again after their webhook was paused.
                await holds.hold_queued(transaction, peer, paused)
            plan = assign([delivery for delivery in due if not delivery.paused], seats)
            for connection, batch in plan:
                ids = [delivery.id for delivery in batch]
                await deliveries.dispatch(transaction, peer, connection.instance_id, ids, now)
        await self._fire(peer, plan)
        if len(due) == CLAIM or paused:
            self._bus.wake(presence_id)
        elif len(due) == limit or any(delivery.suspect for delivery in due):
            self._connections.starve(presence_id)

    async def _fire(self, peer: Peer, plan: Sequence[tuple[Connection, list[Due]]]) -> None:
        """Says the fires; then those that a connection takes no more, as it ends or drains, are queued again."""
        now = self._clock.wall()
        late = [
            (
                connection.instance_id,
                [due.id for due in batch if not connection.fire(_fire(due, now), alone=due.suspect)],
            )
            for connection, batch in plan
        ]
        if any(ids for _, ids in late):
            async with self._database.write() as transaction:
                for instance_id, ids in late:
                    await deliveries.requeue_dispatched(transaction, peer, instance_id, ids)
            self._bus.wake(peer.presence_id)


def _fire(delivery: Due, now: int) -> Fire:
    return Fire(
        id=delivery.id,
        webhook_id=delivery.webhook_id,
        event=delivery.event_type,
        subject_id=delivery.subject,
        uri=delivery.uri,
        method=Method(delivery.method).value,
        body=delivery.body,
        content_type=delivery.content_type,
        on_unknown=OnUnknown(delivery.on_unknown).value,
        age=max(0, now - delivery.created_at),
        max_age=delivery.expires_at - delivery.created_at,
    )

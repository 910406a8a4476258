"""Queued deliveries to connected agents: one loop, woken by the bus, with a slow poll behind it.

What is claimed is `dispatched` in the database before the fire is said, so a crash between the two
loses nothing: the start of the program, or the end of the session, queues it again.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connection, Connections
from presence.controlplane.fairness import assign, in_turn, shares
from presence.controlplane.leases import Leases
from presence.controlplane.metrics import Metrics
from presence.controlplane.sealing import Sealer, UnopenedError, place_of
from presence.controlplane.store import cancellation, deliveries, holds, queue, sweep, webhooks
from presence.controlplane.store.engine import Database
from presence.controlplane.store.queue import Due
from presence.controlplane.store.sweep import OnItsWay, Owner
from presence.controlplane.store.webhooks import AUTHORIZATION_UNREADABLE
from presence.domain.delivery import DeliveryState
from presence.domain.webhook import Method, OnUnknown
from presence.errors import DatabaseError
from presence.logs import get_logger
from presence.protocol.messages import Fire
from presence.tracing import Kind, Spans

POLL_SECONDS = 1.0
STUCK_SECONDS = 30
"""Without a turn for so long, the loop is not alive: a transaction may wait for its turn."""
CLAIM = 500
"""Deliveries in one claim: it bounds the time of the transaction."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Claim:
    """`is_cut_short`: there may be more that could be given now. `leaves_some`: or later, with more credit."""

    due: Sequence[Due]
    is_cut_short: bool
    leaves_some: bool


class Dispatcher:
    """`run` is the loop; it ends only by cancellation or by an error that nobody understands."""

    def __init__(
        self, database: Database, clock: Clock, bus: Bus, connections: Connections, leases: Leases, sealer: Sealer,
        metrics: Metrics, spans: Spans,
    ) -> None:  # fmt: skip
        self._database = database
        self._clock = clock
        self._bus = bus
        self._connections = connections
        self._leases = leases
        self._sealer = sealer
        self._metrics = metrics
        self._spans = spans
        self._turned_at = monotonic()
        self._last: dict[str, str] = {}
        """The host that was first at a presence's latest claim."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        swept_at = loop.time()
        while True:
            self._turned_at = monotonic()
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

    def is_alive(self) -> bool:
        """Whether the loop turns."""
        return monotonic() - self._turned_at < STUCK_SECONDS

    async def _sweep(self) -> set[str]:
        """What time alone brings about: expiry, ended leases, deliveries whose wait is over."""
        now, presences = self._clock.wall(), self._connections.presences()
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            has_expired = await sweep.has_expired(transaction, now)
            owners = await sweep.owners(transaction, presences)
            woken = await sweep.presences_with_due(transaction, presences, now)
            dispatched = await sweep.dispatched(transaction, presences)
        # Between the read and this no fire was said, as only this loop says any.
        unsaid = self._unsaid(dispatched)
        if has_expired:
            async with self._database.write(EVERY_ORGANIZATION) as transaction:
                count = await sweep.expire(transaction, now)
            self._metrics.changed(DeliveryState.EXPIRED, count)
            _log.warning("deliveries expired while they waited", count=count)
        if unsaid:
            async with self._database.write(EVERY_ORGANIZATION) as transaction:
                # Fewer are left where answers were recorded since the read.
                count = await sweep.requeue_unsaid(transaction, unsaid)
            if count:
                _log.warning("deliveries that were dispatched and never said are queued again", count=count)
            woken.update(row.owner.presence_id for row in unsaid)
        for owner in owners:
            if self._is_abandoned(owner):
                await self._take_over(owner)
                woken.add(owner.presence_id)
        return woken

    def _is_abandoned(self, owner: Owner) -> bool:
        """Whether an instance's lease has ended and another one is ready to go on."""
        presence_id, instance_id = owner.presence_id, owner.instance_id
        ready = self._connections.instances(presence_id)
        return bool(ready) and instance_id not in ready and self._leases.has_ended(presence_id, instance_id)

    def _unsaid(self, dispatched: Sequence[OnItsWay]) -> list[OnItsWay]:
        """Those that an instance which is connected here was to get, and that no session has under way."""
        presences = {row.owner.presence_id for row in dispatched}
        connected = {presence_id: self._connections.instances(presence_id) for presence_id in presences}
        under_way = {presence_id: self._connections.under_way(presence_id) for presence_id in presences}
        return [
            row
            for row in dispatched
            if row.owner.instance_id in connected[row.owner.presence_id]
            and row.delivery_id not in under_way[row.owner.presence_id]
        ]

    async def _take_over(self, owner: Owner) -> None:
        async with self._database.write(owner.organization_id) as transaction:
            if not self._is_abandoned(owner):
                return  # It came back while this waited for its turn.
            await cancellation.end_of_instance(transaction, owner, self._clock.wall())
            taken = await sweep.take_over(transaction, owner)
        _log.warning(
            "lease ended: deliveries go to another instance, or are held as their webhooks say;"
            " a duplicate is possible where the old instance had sent a request",
            presence=owner.presence_id, instance=owner.instance_id, queued=taken.queued, held=taken.held,
        )  # fmt: skip

    async def _serve(self, presence_id: str) -> None:
        """Claims for one presence, up to its credit, and fires."""
        seats = self._connections.ready(presence_id)
        if not seats:
            self._connections.starve(presence_id)
            return
        peer, now = seats[0].peer, self._clock.wall()
        async with self._database.write(peer.organization_id) as transaction:
            claim = await self._claim(transaction, seats, now)
            secrets, shut = self._open(peer, claim.due)
            if shut:
                await webhooks.pause(transaction, peer.organization_id, shut, AUTHORIZATION_UNREADABLE, now)
            # Those that are paused were queued again after that.
            paused = shut | {delivery.webhook_id for delivery in claim.due if delivery.paused}
            if paused:
                await holds.hold_queued(transaction, peer, paused)
            plan = assign([delivery for delivery in claim.due if delivery.webhook_id not in paused], seats)
            for connection, batch in plan:
                ids = [delivery.id for delivery in batch]
                await queue.dispatch(transaction, peer, connection.instance_id, ids, now)
        for delivery in (delivery for _, batch in plan for delivery in batch):
            self._metrics.changed(DeliveryState.DISPATCHED)
            self._metrics.dispatched((now - delivery.created_at) / 1000)
        await self._fire(peer, plan, secrets)
        if paused or claim.is_cut_short:
            self._bus.wake(presence_id)
        elif claim.leaves_some:
            self._connections.starve(presence_id)

    def _open(self, peer: Peer, due: Sequence[Due]) -> tuple[dict[str, str], set[str]]:
        """The secrets of the deliveries' webhooks, and the webhooks whose secret cannot be opened."""
        sealed = {delivery.webhook_id: delivery.authorization for delivery in due if delivery.authorization is not None}
        opened: dict[str, str] = {}
        for webhook_id, authorization in sealed.items():
            try:
                opened[webhook_id] = self._sealer.open(authorization, place_of(peer.organization_id, webhook_id))
            except UnopenedError as error:
                _log.error(
                    "webhook paused, its AuthorizationHeader cannot be opened: set it anew, or put the key back;"
                    " then resume it", webhook=webhook_id, presence=peer.presence_id, error=str(error),
                )  # fmt: skip
        return opened, sealed.keys() - opened.keys()

    async def _claim(self, transaction: AsyncConnection, seats: Sequence[Connection], now: int) -> _Claim:
        """What is due, a fair share for each host, for as much as there is credit."""
        peer, credit = seats[0].peer, sum(seat.free_credit for seat in seats)
        limit = min(CLAIM, credit)
        due = await queue.suspects(transaction, peer, now, limit)
        closed = self._connections.closed_hosts(peer.presence_id)
        hosts = [host for host in await queue.hosts(transaction, peer) if host not in closed]
        used = sum((seat.credit_used() for seat in seats), Counter[str]())
        given = shares(in_turn(hosts, self._last.get(peer.presence_id)), used, credit - len(due), limit - len(due))
        found = {
            host: await queue.oldest(transaction, peer, host, now, share)
            for host, share in given.items() if share
        }  # fmt: skip
        if found:
            self._last[peer.presence_id] = next(iter(found))
        has_more = {host for host, rows in found.items() if len(rows) == given[host]}
        others = sorted((row for rows in found.values() for row in rows), key=lambda row: (row.created_at, row.id))
        return _Claim(
            due=[*due, *others],
            is_cut_short=bool(has_more) and (limit == CLAIM or has_more != found.keys()),
            leaves_some=bool(due or has_more) or len(found) < len(hosts),
        )

    async def _fire(self, peer: Peer, plan: Sequence[tuple[Connection, list[Due]]], secrets: Mapping[str, str]) -> None:
        """Says the fires, with the secrets of their webhooks; then those that a connection takes no more, as it ends or
        drains, are queued again."""
        now = self._clock.wall()
        late = [
            (
                connection.instance_id,
                [
                    due.id
                    for due in batch
                    if not connection.fire(self._said(due, now, secrets), due.host, alone=due.suspect)
                ],
            )
            for connection, batch in plan
        ]
        if any(ids for _, ids in late):
            async with self._database.write(peer.organization_id) as transaction:
                for instance_id, ids in late:
                    await deliveries.requeue_dispatched(transaction, peer, instance_id, ids)
                    await cancellation.confirm(transaction, peer, instance_id, ids, now)
            self._bus.wake(peer.presence_id)

    def _said(self, delivery: Due, now: int, secrets: Mapping[str, str]) -> Fire:
        """The fire, at the end of the span for which the delivery was in this queue."""
        span = self._spans.begin(
            "delivery", Kind.PRODUCER, delivery.traceparent, since=delivery.created_at, presence__delivery=delivery.id
        )
        span.end()
        return _fire(delivery, now, secrets, span.traceparent)


def _fire(delivery: Due, now: int, secrets: Mapping[str, str], traceparent: str | None) -> Fire:
    return Fire(
        id=delivery.id,
        webhook_id=delivery.webhook_id,
        event=delivery.event_type,
        subject_id=delivery.subject,
        uri=delivery.uri,
        method=Method(delivery.method).value,
        body=delivery.body,
        content_type=delivery.content_type,
        authorization=None if delivery.authorization is None else secrets[delivery.webhook_id],
        on_unknown=OnUnknown(delivery.on_unknown).value,
        age=max(0, now - delivery.created_at),
        max_age=delivery.expires_at - delivery.created_at,
        traceparent=traceparent,
    )

"""Deliveries: every change of state is one guarded UPDATE, made by `change`. Out of `queued`: `queue`; into `held`
and out of it: `holds`.

What a guard does not let through changes nothing: a message that comes late or twice has no effect.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    ColumnElement,
    Update,
    and_,
    bindparam,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.store.chunks import chunks
from presence.controlplane.store.tables import OWNED, delivery
from presence.domain.delivery import DeliveryState, FinalState, sources_of
from presence.domain.outcome import Reason

_D = DeliveryState
_FINAL = tuple(_D(final.value) for final in FinalState)


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What a delivery starts with. It is queued, unless there is a `reason` why it is held.

    `host`: where its URI points, host and port. `traceparent`: what caused it, in a trace.
    """

    id: str
    webhook_id: str
    asset_group_id: str | None
    presence_id: str
    event_id: str | None
    event_type: str
    subject: str
    uri: str
    host: str
    method: str
    body: str | None
    content_type: str | None
    on_unknown: str
    created_at: int
    expires_at: int
    reason: str | None = None
    redelivery_of: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a delivery stands. `released_attempts`: the attempts after which a person said to go on."""

    state: DeliveryState
    instance_id: str | None
    webhook_id: str
    released_attempts: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How a delivery ended. `attempt_log`: a JSON array; `settled_at` in milliseconds since the epoch."""

    id: str
    state: FinalState
    reason: str
    attempts: int
    attempt_log: str
    settled_at: int


def change(target: DeliveryState, *sources: DeliveryState) -> Update:
    """The guarded UPDATE to a state, from all states that may change to it or from the given ones of them."""
    allowed = sources_of(target)
    assert set(sources) <= set(allowed), f"{sources} may not all become {target}"
    # One bound value for each state: SQLAlchemy's expanding IN does not work with many rows of parameters.
    states = [literal(state.value) for state in sources or allowed]
    return update(delivery).where(delivery.c.state.in_(states)).values(state=target)


def of(peer: Peer) -> ColumnElement[bool]:
    """Those of the agent's presence: all that it can see or change."""
    return (delivery.c.organization_id == peer.organization_id) & (delivery.c.presence_id == peer.presence_id)


async def add(transaction: AsyncConnection, organization_id: str, added: Sequence[NewDelivery]) -> None:
    if added:
        rows = [
            {"organization_id": organization_id, "state": _D.HELD if row.reason else _D.QUEUED, **asdict(row)}
            for row in added
        ]
        await transaction.execute(insert(delivery), rows)


async def accept(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str], now: int) -> None:
    """The instance has them in its journal. One that was queued again meanwhile becomes accepted, too.

    One that an instance holds for a person's decision stays held: only the decision makes it accepted again.
    """
    undecided = and_(delivery.c.state == _D.HELD, delivery.c.instance_id.is_not(None))
    statement = (
        change(_D.ACCEPTED).where(of(peer), ~undecided).values(instance_id=instance_id, accepted_at=now, reason=None)
    )
    for chunk in chunks(ids):
        await transaction.execute(statement.where(delivery.c.id.in_(chunk)))


async def had_in_vain(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str]) -> list[str]:
    """Those that the instance has although another instance owns them now, or they have ended or are to end."""
    query = select(delivery.c.id).where(
        of(peer),
        or_(delivery.c.state.in_((*_FINAL, _D.CANCELLING)), delivery.c.instance_id != instance_id),
    )
    return [
        id_
        for chunk in chunks(ids)
        for id_ in (await transaction.execute(query.where(delivery.c.id.in_(chunk)))).scalars()
    ]


async def had_by(transaction: AsyncConnection, peer: Peer, instance_id: str) -> set[str]:
    """Those that the instance should have in its journal: accepted, or held by it for a person's decision."""
    query = select(delivery.c.id).where(
        of(peer), OWNED, delivery.c.instance_id == instance_id, delivery.c.state.in_([_D.ACCEPTED, _D.HELD])
    )
    return set((await transaction.execute(query)).scalars())


async def hosts_of(transaction: AsyncConnection, peer: Peer, ids: Collection[str]) -> dict[str, str]:
    """Where those of the presence's deliveries point."""
    query = select(delivery.c.id, delivery.c.host).where(of(peer))
    return {
        row[0]: row[1]
        for chunk in chunks(ids)
        for row in await transaction.execute(query.where(delivery.c.id.in_(chunk)))
    }


async def requeue_accepted(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str]) -> None:
    """The instance does not know them any more: its journal was lost, and whatever was decided with it."""
    mine = (of(peer), delivery.c.instance_id == instance_id)
    statement = (
        change(_D.QUEUED, _D.ACCEPTED).where(*mine).values(instance_id=None, released_attempts=None, release_said=False)
    )
    for chunk in chunks(ids):
        await transaction.execute(statement.where(delivery.c.id.in_(chunk)))


async def requeue_dispatched(
    transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str] | None = None
) -> None:
    """What was given to the instance and not accepted is queued again; all of it without `ids`."""
    mine = (of(peer), delivery.c.instance_id == instance_id)
    statement = change(_D.QUEUED, _D.DISPATCHED).where(*mine).values(instance_id=None)
    if ids is None:
        await transaction.execute(statement)
        return
    for chunk in chunks(ids):
        await transaction.execute(statement.where(delivery.c.id.in_(chunk)))


async def blame(transaction: AsyncConnection, peer: Peer, ids: Collection[str], limit: int, now: int) -> list[str]:
    """Counts a protocol close against deliveries; those that reach the limit fail as poison and are returned."""
    failed: list[str] = []
    for chunk in chunks(ids):
        mine = (of(peer), delivery.c.id.in_(chunk))
        await transaction.execute(
            update(delivery)
            .where(*mine, delivery.c.state == _D.DISPATCHED)
            .values(protocol_closes=delivery.c.protocol_closes + 1)
        )
        ended = await transaction.execute(
            change(_D.FAILED, _D.DISPATCHED)
            .where(*mine, delivery.c.protocol_closes >= limit)
            .values(reason=Reason.POISON, settled_at=now)
            .returning(delivery.c.id)
        )
        failed += ended.scalars()
    return failed


async def standings(transaction: AsyncConnection, peer: Peer, ids: Collection[str]) -> dict[str, Standing]:
    """Where those of the presence's deliveries stand that exist."""
    query = select(
        delivery.c.id,
        delivery.c.state,
        delivery.c.instance_id,
        delivery.c.webhook_id,
        delivery.c.released_attempts,
        delivery.c.created_at,
    ).where(of(peer))
    return {
        row[0]: Standing(_D(row[1]), *row[2:])
        for chunk in chunks(ids)
        for row in await transaction.execute(query.where(delivery.c.id.in_(chunk)))
    }


async def settle(transaction: AsyncConnection, peer: Peer, instance_id: str, settled: Sequence[Settled]) -> None:
    """Writes how deliveries ended; one that has ended already stays as it is."""
    for state in FinalState:
        rows = [
            {"of": row.id, "why": row.reason, "made": row.attempts, "log": row.attempt_log, "at": row.settled_at}
            for row in settled
            if row.state is state
        ]
        if rows:
            statement = (
                change(_D(state.value))
                .where(of(peer), delivery.c.id == bindparam("of"))
                .values(
                    reason=bindparam("why"), attempts=bindparam("made"), attempt_log=bindparam("log"),
                    settled_at=bindparam("at"), instance_id=instance_id,
                )
            )  # fmt: skip
            await transaction.execute(statement, rows)

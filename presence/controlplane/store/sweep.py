"""What time alone brings about, in all organizations: expiry, ended leases, waits that are over, a restart."""

from collections.abc import Collection

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.deliveries import change, is_due
from presence.controlplane.store.tables import delivery, instance, presence
from presence.domain.delivery import DeliveryState
from presence.domain.outcome import Reason

_D = DeliveryState
_WAITING = (_D.QUEUED, _D.HELD)


async def presences_with_due(transaction: AsyncConnection, presence_ids: Collection[str], now: int) -> set[str]:
    """Those of the presences that have a delivery to fire now."""
    some = exists().where(delivery.c.presence_id == presence.c.id, is_due(now))
    query = select(presence.c.id).where(presence.c.id.in_(presence_ids), some)
    return set((await transaction.execute(query)).scalars())


async def requeue_all_dispatched(transaction: AsyncConnection) -> int:
    """At the start no session lives, so nothing is on its way. Gives how many there were."""
    changed = await transaction.execute(change(_D.QUEUED, _D.DISPATCHED).values(instance_id=None))
    return changed.rowcount


async def expire(transaction: AsyncConnection, now: int) -> int:
    """Ends what was queued or held for too long, in every organization. Gives how many there were.

    The instance that holds one ends it, too, by the same age; if it does not, it is told to when it next states it.
    """
    changed = await transaction.execute(
        change(_D.EXPIRED, *_WAITING).where(delivery.c.expires_at <= now).values(reason=Reason.TOO_OLD, settled_at=now)
    )
    return changed.rowcount


async def has_expired(transaction: AsyncConnection, now: int) -> bool:
    """Whether `expire` would find something."""
    query = select(delivery.c.id).where(delivery.c.state.in_(_WAITING), delivery.c.expires_at <= now).limit(1)
    return (await transaction.execute(query)).first() is not None


async def abandoned(transaction: AsyncConnection, presence_ids: Collection[str], now: int) -> list[tuple[str, str]]:
    """(presence, instance) whose lease has ended, by the wall clock, while deliveries are theirs.

    What an instance holds for a person's decision is no reason, and is not taken from it.
    """
    owned = exists().where(
        delivery.c.presence_id == instance.c.presence_id,
        delivery.c.state.in_((_D.DISPATCHED, _D.ACCEPTED)),
        delivery.c.instance_id == instance.c.instance_id,
    )
    query = select(instance.c.presence_id, instance.c.instance_id).where(
        instance.c.presence_id.in_(presence_ids), instance.c.lease_until < now, owned
    )
    return [(row[0], row[1]) for row in await transaction.execute(query)]


async def dispatched(transaction: AsyncConnection, presence_ids: Collection[str]) -> list[tuple[str, str, str]]:
    """(presence, instance, delivery) of what is on its way."""
    query = select(delivery.c.presence_id, delivery.c.instance_id, delivery.c.id).where(
        delivery.c.presence_id.in_(presence_ids), delivery.c.state == _D.DISPATCHED
    )
    return [(row[0], row[1], row[2]) for row in await transaction.execute(query)]


async def requeue_unsaid(transaction: AsyncConnection, unsaid: Collection[tuple[str, str, str]]) -> None:
    """Takes back what was dispatched and never said: (presence, instance, delivery)."""
    for presence_id, instance_id, delivery_id in unsaid:
        mine = (delivery.c.presence_id == presence_id, delivery.c.instance_id == instance_id)
        await transaction.execute(
            change(_D.QUEUED, _D.DISPATCHED).where(*mine, delivery.c.id == delivery_id).values(instance_id=None)
        )


async def requeue_abandoned(transaction: AsyncConnection, presence_id: str, instance_id: str, now: int) -> int:
    """Takes deliveries from an instance whose lease has ended. Gives how many there were."""
    ended = select(instance.c.instance_id).where(
        instance.c.presence_id == presence_id, instance.c.instance_id == instance_id, instance.c.lease_until < now
    )
    changed = await transaction.execute(
        change(_D.QUEUED, _D.DISPATCHED, _D.ACCEPTED)
        .where(delivery.c.presence_id == presence_id, delivery.c.instance_id.in_(ended))
        .values(instance_id=None, released_attempts=None)
    )
    return changed.rowcount

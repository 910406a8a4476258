"""What time alone brings about, in all organizations: expiry, ended leases, waits that are over, a restart."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.chunks import chunks
from presence.controlplane.store.deliveries import change
from presence.controlplane.store.queue import is_due
from presence.controlplane.store.tables import OWNED, WAITING, delivery, instance, presence
from presence.domain.delivery import DeliveryState
from presence.domain.outcome import Reason
from presence.domain.webhook import OnUnknown

_D = DeliveryState


class Owner(NamedTuple):
    """An instance that deliveries are given to."""

    organization_id: str
    presence_id: str
    instance_id: str


class OnItsWay(NamedTuple):
    """A dispatched delivery."""

    owner: Owner
    delivery_id: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What became of an instance's deliveries: queued again, or held until a person decides."""

    queued: int
    held: int


async def presences_with_due(transaction: AsyncConnection, presence_ids: Collection[str], now: int) -> set[str]:
    """Those of the presences that have a delivery to fire now."""
    of_presence = (delivery.c.organization_id == presence.c.organization_id, delivery.c.presence_id == presence.c.id)
    some = exists().where(*of_presence, is_due(now))
    found: set[str] = set()
    for chunk in chunks(presence_ids):
        found.update((await transaction.execute(select(presence.c.id).where(presence.c.id.in_(chunk), some))).scalars())
    return found


async def requeue_all_dispatched(transaction: AsyncConnection) -> int:
    """At the start no session lives, so nothing is on its way. Gives how many there were."""
    changed = await transaction.execute(change(_D.QUEUED, _D.DISPATCHED).values(instance_id=None))
    return changed.rowcount


async def expire(transaction: AsyncConnection, now: int) -> int:
    """Ends what was queued or held for too long, in every organization. Gives how many there were.

    What was being cancelled then, and its agent has not told how it ended, is cancelled.
    The instance that holds one ends it, too, by the same age; if it does not, it is told to when it next states it.
    """
    changed = await transaction.execute(
        change(_D.EXPIRED, _D.QUEUED, _D.HELD)
        .where(WAITING, delivery.c.expires_at <= now)
        .values(reason=Reason.TOO_OLD, settled_at=now)
    )
    cancelled = await transaction.execute(
        change(_D.CANCELLED, _D.CANCELLING).where(WAITING, delivery.c.expires_at <= now).values(settled_at=now)
    )
    return changed.rowcount + cancelled.rowcount


async def has_expired(transaction: AsyncConnection, now: int) -> bool:
    """Whether `expire` would find something."""
    query = select(delivery.c.id).where(WAITING, delivery.c.expires_at <= now).limit(1)
    return (await transaction.execute(query)).first() is not None


async def owners(transaction: AsyncConnection, presence_ids: Collection[str]) -> list[Owner]:
    """Those of the presences' instances that have deliveries, as far as is known.

    What an instance holds for a person's decision is no reason, and is not taken from it.
    """
    owned = exists().where(
        OWNED,
        delivery.c.organization_id == instance.c.organization_id,
        delivery.c.presence_id == instance.c.presence_id,
        delivery.c.instance_id == instance.c.instance_id,
        delivery.c.state != _D.HELD,
    )
    query = select(instance.c.organization_id, instance.c.presence_id, instance.c.instance_id).where(owned)
    return [
        Owner(*row)
        for chunk in chunks(presence_ids)
        for row in await transaction.execute(query.where(instance.c.presence_id.in_(chunk)))
    ]


async def dispatched(transaction: AsyncConnection, presence_ids: Collection[str]) -> list[OnItsWay]:
    """What is on its way to the presences' instances."""
    query = select(delivery.c.organization_id, delivery.c.presence_id, delivery.c.instance_id, delivery.c.id).where(
        delivery.c.state == _D.DISPATCHED
    )
    return [
        OnItsWay(Owner(*row[:3]), row[3])
        for chunk in chunks(presence_ids)
        for row in await transaction.execute(query.where(delivery.c.presence_id.in_(chunk)))
    ]


async def requeue_unsaid(transaction: AsyncConnection, unsaid: Collection[OnItsWay]) -> int:
    """Takes back what was dispatched and never said. Gives how many there were."""
    count = 0
    for owner, delivery_id in unsaid:
        changed = await transaction.execute(
            change(_D.QUEUED, _D.DISPATCHED).where(had_by(owner), delivery.c.id == delivery_id).values(instance_id=None)
        )
        count += changed.rowcount
    return count


def had_by(owner: Owner) -> ColumnElement[bool]:
    return and_(
        delivery.c.organization_id == owner.organization_id,
        delivery.c.presence_id == owner.presence_id,
        delivery.c.instance_id == owner.instance_id,
    )


async def take_over(transaction: AsyncConnection, owner: Owner) -> TakeOver:
    """Takes deliveries from an instance whose lease has ended.

    It may have sent what it had accepted, so what its webhook wants to have held then is held until a person
    decides; unless one has said already to send it again, and the instance did not hear of it.
    """
    mine = (OWNED, had_by(owner))
    undecided = or_(delivery.c.released_attempts.is_(None), delivery.c.release_said)
    to_hold = and_(delivery.c.on_unknown == OnUnknown.HOLD, undecided)
    nobodys = {"instance_id": None, "released_attempts": None, "release_said": False}
    taken = {**nobodys, "takeovers": delivery.c.takeovers + 1}
    unaccepted = await transaction.execute(change(_D.QUEUED, _D.DISPATCHED).where(*mine).values(nobodys))
    held = await transaction.execute(
        change(_D.HELD, _D.ACCEPTED).where(*mine, to_hold).values(**taken, reason=Reason.UNKNOWN)
    )
    queued = await transaction.execute(change(_D.QUEUED, _D.ACCEPTED).where(*mine).values(taken))
    return TakeOver(unaccepted.rowcount + queued.rowcount, held.rowcount)

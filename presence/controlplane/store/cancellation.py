"""Deliveries that shall not be attempted any more.

Those that no agent has end at once. What was given to an agent is `cancelling` until that says how it ended: a request
that is under way is never interrupted, and its true outcome wins. An agent that proves not to have it, or whose lease
ends, ends it, too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.store.chunks import chunks
from presence.controlplane.store.deliveries import change, of
from presence.controlplane.store.sweep import Owner, had_by
from presence.controlplane.store.tables import OWNED, UNFINISHED, delivery
from presence.domain.delivery import DeliveryState
from presence.domain.outcome import Reason

WEBHOOK_DELETED: Final = "webhook_deleted"
PRESENCE_DELETED: Final = "presence_deleted"
"""Why a delivery was cancelled that nobody cancelled by itself: no reasons that an agent gives."""

_D = DeliveryState


@dataclass(frozen=True, slots=True)
class Holder:
    """An agent that has, or is about to get, a delivery that is cancelled: it is to be told after the commit."""

    presence_id: str
    instance_id: str
    delivery_id: str


async def cancel_delivery(
    transaction: AsyncConnection, organization_id: str, delivery_id: str, now: int
) -> list[Holder]:
    """Prevents the next attempt of one delivery; changes nothing where it has ended."""
    return await _cancel(transaction, organization_id, delivery.c.id == delivery_id, Reason.CANCELLED, now)


async def cancel_of_webhook(
    transaction: AsyncConnection, organization_id: str, webhook_id: str, now: int
) -> list[Holder]:
    """Cancels what is unfinished of a webhook that is deleted."""
    condition = UNFINISHED & (delivery.c.webhook_id == webhook_id)
    return await _cancel(transaction, organization_id, condition, WEBHOOK_DELETED, now)


async def end_of_presence(transaction: AsyncConnection, organization_id: str, presence_id: str, now: int) -> None:
    """Ends what is unfinished of a presence that is deleted: none of its agents can tell anything any more."""
    await transaction.execute(
        change(_D.CANCELLED)
        .where(
            delivery.c.organization_id == organization_id,
            delivery.c.presence_id == presence_id,
            delivery.c.state.in_([_D.QUEUED, _D.HELD, _D.DISPATCHED, _D.ACCEPTED, _D.CANCELLING]),
        )
        .values(reason=PRESENCE_DELETED, settled_at=now)
    )


async def end_of_instance(transaction: AsyncConnection, owner: Owner, now: int) -> None:
    """The instance's lease has ended: what it should have cancelled has ended."""
    await transaction.execute(change(_D.CANCELLED, _D.CANCELLING).where(OWNED, had_by(owner)).values(settled_at=now))


async def awaited(transaction: AsyncConnection, peer: Peer, instance_id: str) -> set[str]:
    """What the instance is to cancel, as far as it has it."""
    query = select(delivery.c.id).where(
        of(peer), OWNED, delivery.c.instance_id == instance_id, delivery.c.state == _D.CANCELLING
    )
    return set((await transaction.execute(query)).scalars())


async def confirm(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str], now: int) -> None:
    """The instance does not have these: those that are being cancelled have ended."""
    statement = (
        change(_D.CANCELLED, _D.CANCELLING)
        .where(of(peer), delivery.c.instance_id == instance_id)
        .values(settled_at=now)
    )
    for chunk in chunks(ids):
        await transaction.execute(statement.where(delivery.c.id.in_(chunk)))


async def _cancel(
    transaction: AsyncConnection, organization_id: str, which: ColumnElement[bool], reason: str, now: int
) -> list[Holder]:
    told = (delivery.c.presence_id, delivery.c.instance_id, delivery.c.id)
    mine = (delivery.c.organization_id == organization_id, which)
    ended = await transaction.execute(
        change(_D.CANCELLED, _D.QUEUED, _D.HELD).where(*mine).values(reason=reason, settled_at=now).returning(*told)
    )
    holders = _holders(ended.all())
    begun = await transaction.execute(
        change(_D.CANCELLING, _D.DISPATCHED, _D.ACCEPTED).where(*mine).values(reason=reason).returning(*told)
    )
    return holders + _holders(begun.all())


def _holders(rows: Sequence[Sequence[str | None]]) -> list[Holder]:
    return [
        Holder(presence_id, instance_id, delivery_id)
        for presence_id, instance_id, delivery_id in rows
        if presence_id is not None and instance_id is not None and delivery_id is not None
    ]

"""What is queued, by target host, and its way to an instance. No statement here looks at a whole queue."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.store.deliveries import change, of
from presence.controlplane.store.tables import SUSPECT, delivery, webhook
from presence.domain.delivery import DeliveryState

_D = DeliveryState


@dataclass(frozen=True, slots=True)
class Due:
    """A queued delivery that may be fired now. `suspect`: a session broke once while it was unanswered.

    `paused`: its webhook has been paused since it was queued, so it is to be held instead. `authorization`: the sealed
    secret that its webhook has now, if that still points to the same server.
    """

    id: str
    webhook_id: str
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
    traceparent: str | None
    suspect: bool
    paused: bool
    authorization: str | None = field(repr=False)


def is_due(now: int) -> ColumnElement[bool]:
    """Queued, and not too old."""
    return and_(delivery.c.state == _D.QUEUED, delivery.c.expires_at > now)


async def hosts(transaction: AsyncConnection, peer: Peer) -> list[str]:
    """The target hosts that something is queued for, in order; as cheap for long queues as for short ones."""
    return list((await transaction.execute(_HOSTS, _asked(peer))).scalars())


async def oldest(transaction: AsyncConnection, peer: Peer, host: str, now: int, limit: int) -> list[Due]:
    """The host's oldest deliveries that may be fired now; suspects apart."""
    asked = {**_asked(peer), "host": host, "now": now, "limit": limit}
    return [Due(*row) for row in await transaction.execute(_OLDEST, asked)]


async def suspects(transaction: AsyncConnection, peer: Peer, now: int, limit: int) -> list[Due]:
    """The oldest deliveries under suspicion, whatever their host."""
    asked = {**_asked(peer), "now": now, "limit": limit}
    return [Due(*row) for row in await transaction.execute(_SUSPECTS, asked)]


async def dispatch(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str], now: int) -> None:
    """Gives queued deliveries to an instance."""
    await transaction.execute(
        change(_D.DISPATCHED).where(of(peer), delivery.c.id.in_(ids)).values(instance_id=instance_id, dispatched_at=now)
    )


def _asked(peer: Peer) -> dict[str, object]:
    return {"organization_id": peer.organization_id, "presence_id": peer.presence_id}


# Built once: that takes longer than running them.
_QUEUED = and_(
    delivery.c.organization_id == bindparam("organization_id"),
    delivery.c.presence_id == bindparam("presence_id"),
    delivery.c.state == _D.QUEUED,
)


def _hosts() -> Select[Any]:
    """From each host to the next one in the index: a loose index scan, which neither database does by itself.

    Not by min(): without statistics PostgreSQL would look at all rows for it.
    """
    next_one = select(delivery.c.host).where(_QUEUED).order_by(delivery.c.host).limit(1)
    first = select(next_one.scalar_subquery().label("host")).cte("walk", recursive=True)
    following = next_one.where(delivery.c.host > first.c.host).scalar_subquery()
    walk = first.union_all(select(following).where(first.c.host.is_not(None)))
    return select(walk.c.host).where(walk.c.host.is_not(None))


def _due() -> Select[Any]:
    paused = exists().where(
        webhook.c.organization_id == delivery.c.organization_id,
        webhook.c.id == delivery.c.webhook_id,
        webhook.c.paused_at.is_not(None),
    )
    scheme = 6
    authorization = (
        select(webhook.c.authorization)
        .where(
            webhook.c.organization_id == delivery.c.organization_id,
            webhook.c.id == delivery.c.webhook_id,
            webhook.c.host == delivery.c.host,
            func.lower(func.substr(webhook.c.uri, 1, scheme)) == func.lower(func.substr(delivery.c.uri, 1, scheme)),
        )
        .correlate(delivery)
        .scalar_subquery()
    )
    columns = [delivery.c[name] for name in Due.__slots__ if name not in ("suspect", "paused", "authorization")]
    return (
        select(*columns, SUSPECT, paused, authorization)
        .where(_QUEUED, delivery.c.expires_at > bindparam("now"))
        .order_by(delivery.c.created_at, delivery.c.id)
        .limit(bindparam("limit"))
    )


_HOSTS = _hosts()
_OLDEST = _due().where(delivery.c.host == bindparam("host"), ~SUSPECT)
_SUSPECTS = _due().where(SUSPECT)

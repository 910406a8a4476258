"""The delivery log: what an organization sees of its deliveries."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import delivery


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as its log shows it. `attempt_log`: a JSON array."""

    id: str
    webhook_id: str
    presence_id: str
    event_id: str
    event_type: str
    subject: str
    uri: str
    method: str
    state: str
    reason: str | None
    instance_id: str | None
    attempts: int
    attempt_log: str
    takeovers: int
    created_at: int
    dispatched_at: int | None
    accepted_at: int | None
    settled_at: int | None


def _shown(organization_id: str) -> Select[Any]:
    return select(*(delivery.c[name] for name in Delivery.__slots__)).where(
        delivery.c.organization_id == organization_id
    )


async def find(transaction: AsyncConnection, organization_id: str, delivery_id: str) -> Delivery | None:
    """The organization's delivery of that id."""
    row = (await transaction.execute(_shown(organization_id).where(delivery.c.id == delivery_id))).first()
    return Delivery(*row) if row else None


async def page(transaction: AsyncConnection, organization_id: str, top: int, skip: int) -> list[Delivery]:
    """A page of the organization's deliveries, newest first."""
    query = _shown(organization_id).order_by(delivery.c.created_at.desc(), delivery.c.id.desc()).limit(top).offset(skip)
    return [Delivery(*row) for row in await transaction.execute(query)]


async def count(transaction: AsyncConnection, organization_id: str) -> int:
    query = select(func.count()).select_from(delivery).where(delivery.c.organization_id == organization_id)
    return (await transaction.execute(query)).scalar_one()

"""Webhooks, and which of them an event concerns."""

from dataclasses import astuple, dataclass

from sqlalchemy import ColumnElement, bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import webhook
from presence.domain.events import EventType


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook at organization level (`asset_group_id` is None) or of one asset group."""

    id: str
    presence_id: str
    uri: str
    event: str
    is_global: bool
    asset_group_id: str | None
    max_age_seconds: int
    created_at: int


_COLUMNS = (
    webhook.c.id,
    webhook.c.presence_id,
    webhook.c.uri,
    webhook.c.event,
    webhook.c.is_global,
    webhook.c.asset_group_id,
    webhook.c.max_age_seconds,
    webhook.c.created_at,
)


def _visible(organization_id: str) -> ColumnElement[bool]:
    return webhook.c.organization_id == organization_id


async def page(transaction: AsyncConnection, organization_id: str, top: int, skip: int) -> list[Webhook]:
    """A page of the organization's webhooks, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(_visible(organization_id))
        .order_by(webhook.c.created_at, webhook.c.id)
        .limit(top)
        .offset(skip)
    )
    return [Webhook(*row) for row in await transaction.execute(query)]


async def count(transaction: AsyncConnection, organization_id: str) -> int:
    query = select(func.count()).select_from(webhook).where(_visible(organization_id))
    return (await transaction.execute(query)).scalar_one()


async def add(transaction: AsyncConnection, organization_id: str, added: Webhook) -> None:
    columns = (column.name for column in _COLUMNS)
    values = dict(zip(columns, astuple(added), strict=True))
    await transaction.execute(insert(webhook).values(organization_id=organization_id, **values))


# Built once: it runs for every event.
_MATCHING = (
    select(*_COLUMNS)
    .where(
        webhook.c.organization_id == bindparam("organization_id"),
        webhook.c.event == bindparam("event"),
        webhook.c.asset_group_id.is_(None),
        webhook.c.is_global,
    )
    .order_by(webhook.c.created_at, webhook.c.id)
)


async def matching(transaction: AsyncConnection, organization_id: str, event: EventType) -> list[Webhook]:
    """Those that fire for such an event of no application: organization level and Global."""
    rows = await transaction.execute(_MATCHING, {"organization_id": organization_id, "event": event.value})
    return [Webhook(*row) for row in rows]

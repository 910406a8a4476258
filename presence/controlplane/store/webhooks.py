"""Webhooks."""

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import webhook


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook at organization level (`asset_group_id` is None) or of one asset group.

    `uri` and `body` are templates; `host` is where the URI points, host and port. `authorization` is
    sealed. `paused_at` and `paused_reason`: both or none.
    """

    id: str
    presence_id: str
    uri: str
    host: str
    method: str
    body: str | None
    content_type: str | None
    on_unknown: str
    event: str
    is_global: bool
    asset_group_id: str | None
    max_age_seconds: int
    created_at: int
    authorization: str | None = None
    paused_at: int | None = None
    paused_reason: str | None = None


_COLUMNS = [webhook.c[name] for name in Webhook.__slots__]


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


async def find(transaction: AsyncConnection, organization_id: str, webhook_id: str) -> Webhook | None:
    """The organization's webhook of that id."""
    query = select(*_COLUMNS).where(_visible(organization_id), webhook.c.id == webhook_id)
    row = (await transaction.execute(query)).first()
    return Webhook(*row) if row else None


async def count(transaction: AsyncConnection, organization_id: str) -> int:
    query = select(func.count()).select_from(webhook).where(_visible(organization_id))
    return (await transaction.execute(query)).scalar_one()


async def add(transaction: AsyncConnection, organization_id: str, added: Webhook) -> None:
    await transaction.execute(insert(webhook).values(organization_id=organization_id, **asdict(added)))


async def pause(
    transaction: AsyncConnection, organization_id: str, ids: Collection[str], reason: str, now: int
) -> list[str]:
    """Pauses those that are not paused yet; gives their ids."""
    changed = await transaction.execute(
        update(webhook)
        .where(_visible(organization_id), webhook.c.id.in_(ids), webhook.c.paused_at.is_(None))
        .values(paused_at=now, paused_reason=reason)
        .returning(webhook.c.id)
    )
    return list(changed.scalars())


async def resume(transaction: AsyncConnection, organization_id: str, webhook_id: str) -> None:
    await transaction.execute(
        update(webhook)
        .where(_visible(organization_id), webhook.c.id == webhook_id)
        .values(paused_at=None, paused_reason=None)
    )

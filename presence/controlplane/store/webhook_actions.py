"""Webhooks as those see them who test, pause and resume them, or have something redelivered."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.store.tables import webhook
from presence.controlplane.store.visibility import visible


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook and what a delivery of it starts with. `paused_at` and `paused_reason`: both or none."""

    id: str
    asset_group_id: str | None
    presence_id: str
    event: str
    uri: str
    host: str
    method: str
    body: str | None
    content_type: str | None
    on_unknown: str
    max_age_seconds: int
    paused_at: int | None
    paused_reason: str | None


_COLUMNS = [webhook.c[name] for name in Target.__slots__]


async def find(transaction: AsyncConnection, principal: Principal, webhook_id: str) -> Target | None:
    """The webhook, if the principal may see it. It stays as it is until the transaction ends."""
    query = select(*_COLUMNS).where(visible(principal, webhook), webhook.c.id == webhook_id).with_for_update()
    row = (await transaction.execute(query)).first()
    return Target(*row) if row else None


async def mark(
    transaction: AsyncConnection, organization_id: str, webhook_id: str, paused_at: int | None, reason: str | None
) -> None:
    """Pauses it for that reason or, with None and None, ends its pause."""
    await transaction.execute(
        update(webhook)
        .where(webhook.c.organization_id == organization_id, webhook.c.id == webhook_id)
        .values(paused_at=paused_at, paused_reason=reason)
    )

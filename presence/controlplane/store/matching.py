"""Which webhooks fire for an event: the rule of `domain.scope` as one query.

Each way in which a webhook can be concerned is one look-up in an index; nothing is scanned, however many webhooks and
applications there are.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, and_, bindparam, or_, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import association, webhook
from presence.domain.events import EventType
from presence.domain.scope import Place


@dataclass(frozen=True, slots=True)
class Match:
    """A webhook that fires: what its delivery starts with."""

    id: str
    asset_group_id: str | None
    presence_id: str
    uri: str
    host: str
    method: str
    body: str | None
    content_type: str | None
    on_unknown: str
    max_age_seconds: int
    paused_at: int | None


async def matching(
    transaction: AsyncConnection, organization_id: str, event: EventType, place: Place | None
) -> list[Match]:
    """The webhooks that fire for an event of that type there, oldest first; None: it is of no application.

    Until the transaction ends, none of them is deleted: what is deleted with a webhook includes its deliveries.
    """
    asked = {
        "organization_id": organization_id,
        "event": event.value,
        "application_id": None if place is None else place.application_id,
        "asset_group_id": None if place is None else place.asset_group_id,
    }
    return [Match(*row) for row in await transaction.execute(MATCHING, asked)]


def _matching() -> Select[Any]:
    # Compared with NULL, where there is no application, nothing is equal.
    application: BindParameter[str] = bindparam("application_id")
    group: BindParameter[str] = bindparam("asset_group_id")
    of_type = and_(webhook.c.organization_id == bindparam("organization_id"), webhook.c.event == bindparam("event"))
    at_top = webhook.c.asset_group_id.is_(None)
    ids = union(
        select(webhook.c.id).where(of_type, webhook.c.is_global, at_top),
        select(webhook.c.id).where(of_type, webhook.c.is_global, webhook.c.asset_group_id == group),
        _associated(association.c.application_id == application).where(
            of_type, ~webhook.c.is_global, or_(at_top, webhook.c.asset_group_id == group)
        ),
        _associated(association.c.asset_group_id == group).where(of_type, ~webhook.c.is_global, at_top),
    )
    return (
        select(*(webhook.c[name] for name in Match.__slots__))
        .where(webhook.c.organization_id == bindparam("organization_id"), webhook.c.id.in_(ids))
        .order_by(webhook.c.created_at, webhook.c.id)
        .with_for_update(read=True, key_share=True, of=webhook)
    )


def _associated(scope: ColumnElement[bool]) -> Select[Any]:
    """The webhooks with such an association."""
    same = and_(
        webhook.c.organization_id == association.c.organization_id,
        webhook.c.id == association.c.webhook_id,
    )
    return (
        select(webhook.c.id)
        .join_from(association, webhook, same)
        .where(association.c.organization_id == bindparam("organization_id"), scope)
    )


# Built once: it runs for every event.
MATCHING = _matching()

"""Which webhooks fire for an event: the rule of `domain.scope` as one query.

Each way in which a webhook can be concerned is one look-up in an index; nothing is scanned, however many webhooks and
applications there are.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import String, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

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
    """The webhooks that fire for an event of that type there; None: it is of no application.

    Until the transaction ends, none of them is deleted: what is deleted with a webhook includes its deliveries.
    """
    rows = await transaction.execute(MATCHING[transaction.dialect.name], asked(organization_id, event, place))
    return [Match(*row) for row in rows]


def asked(organization_id: str, event: EventType, place: Place | None) -> dict[str, str | None]:
    """What the query is given."""
    return {
        "organization_id": organization_id,
        "event": event.value,
        "application_id": None if place is None else place.application_id,
        "asset_group_id": None if place is None else place.asset_group_id,
    }


# Written out, because CROSS JOIN keeps SQLite to the order of the tables: it would begin with all webhooks otherwise.
# Compared with NULL, where there is no application, nothing is equal. UNION is for what is associated twice.
_QUERY: Final = """
    SELECT * FROM (
        SELECT <columns> FROM association CROSS JOIN webhook
        WHERE association.organization_id = :organization_id AND association.application_id = :application_id
            AND webhook.organization_id = :organization_id AND webhook.id = association.webhook_id
            AND webhook.event = :event AND webhook.is_global = false
            AND (webhook.asset_group_id IS NULL OR webhook.asset_group_id = :asset_group_id) <lock>
    ) AS of_application
    UNION
    SELECT * FROM (
        SELECT <columns> FROM association CROSS JOIN webhook
        WHERE association.organization_id = :organization_id AND association.asset_group_id = :asset_group_id
            AND webhook.organization_id = :organization_id AND webhook.id = association.webhook_id
            AND webhook.event = :event AND webhook.is_global = false AND webhook.asset_group_id IS NULL <lock>
    ) AS of_group
    UNION ALL
    SELECT * FROM (
        SELECT <columns> FROM webhook
        WHERE webhook.organization_id = :organization_id AND webhook.event = :event
            AND webhook.is_global = true AND webhook.asset_group_id = :asset_group_id <lock>
    ) AS global_in_group
    UNION ALL
    SELECT * FROM (
        SELECT <columns> FROM webhook
        WHERE webhook.organization_id = :organization_id AND webhook.event = :event
            AND webhook.is_global = true AND webhook.asset_group_id IS NULL <lock>
    ) AS global_in_organization
"""


def _statement(lock: str) -> TextClause:
    columns = ", ".join(f"webhook.{name}" for name in Match.__slots__)
    parameters = ("organization_id", "event", "application_id", "asset_group_id")
    query = text(_QUERY.replace("<columns>", columns).replace("<lock>", lock))
    return query.bindparams(*(bindparam(name, type_=String) for name in parameters))


MATCHING: Final = {"sqlite": _statement(""), "postgresql": _statement("FOR KEY SHARE OF webhook")}
"""By database; built once, because it runs for every event."""

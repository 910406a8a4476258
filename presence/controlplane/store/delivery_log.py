"""The delivery log: what a principal sees of its organization's deliveries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import delivery
from presence.controlplane.store.visibility import visible


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as its log shows it. `attempt_log`: a JSON array. No `event_id`: somebody asked for it."""

    id: str
    webhook_id: str
    asset_group_id: str | None
    presence_id: str
    event_id: str | None
    redelivery_of: str | None
    event_type: str
    subject: str
    uri: str
    host: str
    method: str
    body: str | None
    content_type: str | None
    on_unknown: str
    state: str
    reason: str | None
    instance_id: str | None
    attempts: int
    attempt_log: str
    takeovers: int
    created_at: int
    expires_at: int
    dispatched_at: int | None
    accepted_at: int | None
    settled_at: int | None


COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": delivery.c.id,
    "WebhookId": delivery.c.webhook_id,
    "AssetGroupId": delivery.c.asset_group_id,
    "PresenceId": delivery.c.presence_id,
    "EventId": delivery.c.event_id,
    "RedeliveryOf": delivery.c.redelivery_of,
    "Event": delivery.c.event_type,
    "SubjectId": delivery.c.subject,
    "Uri": delivery.c.uri,
    "Host": delivery.c.host,
    "RequestMethod": delivery.c.method,
    "State": delivery.c.state,
    "Reason": delivery.c.reason,
    "InstanceId": delivery.c.instance_id,
    "AttemptCount": delivery.c.attempts,
    "TakeOvers": delivery.c.takeovers,
    "CreatedAt": delivery.c.created_at,
    "ExpiresAt": delivery.c.expires_at,
    "DispatchedAt": delivery.c.dispatched_at,
    "AcceptedAt": delivery.c.accepted_at,
    "SettledAt": delivery.c.settled_at,
}
"""What is behind the fields of the API."""


def _shown(principal: Principal) -> Select[Any]:
    return select(*(delivery.c[name] for name in Delivery.__slots__)).where(visible(principal, delivery))


async def find(transaction: AsyncConnection, principal: Principal, delivery_id: str) -> Delivery | None:
    """The delivery of that id, if the principal may see it."""
    row = (await transaction.execute(_shown(principal).where(delivery.c.id == delivery_id))).first()
    return Delivery(*row) if row else None


async def page(
    transaction: AsyncConnection, principal: Principal, query: ListQuery
) -> tuple[list[Delivery], int | None]:
    """Deliveries that the principal may see, newest first."""
    newest = (delivery.c.created_at.desc(), delivery.c.id.desc())
    rows, count = await odata.page(transaction, _shown(principal), query, COLUMNS, newest)
    return [Delivery(*row) for row in rows], count

"""Webhooks: what is stored of them, and who sees which. Which of them an event concerns: `matching`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.audits import Activity, Change, Entity, record_unattended
from presence.controlplane.store.tables import asset_group, association, webhook
from presence.controlplane.store.visibility import visible
from presence.domain.webhook import OnUnknown


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
    authorization: str | None = field(default=None, repr=False)
    paused_at: int | None = None
    paused_reason: str | None = None


AUTHORIZATION_UNREADABLE: Final = "authorization_unreadable"
"""Why a webhook is paused whose secret cannot be opened."""


class Shown(NamedTuple):
    """A webhook as its readers see it. `never_fires`: it is not Global and has no association."""

    webhook: Webhook
    asset_group_name: str | None
    never_fires: bool


class Sealed(NamedTuple):
    """A secret as it is stored, and whose."""

    organization_id: str
    webhook_id: str
    asset_group_id: str | None
    authorization: str


_NAMES = tuple(Webhook.__slots__)
_IMMUTABLE = frozenset({"id", "event", "asset_group_id", "created_at", "paused_at", "paused_reason"})
_SCOPES = exists().where(
    association.c.organization_id == webhook.c.organization_id, association.c.webhook_id == webhook.c.id
)
_NEVER_FIRES = ~or_(webhook.c.is_global, _SCOPES)
_SHOWN = select(
    *(webhook.c[name] for name in _NAMES), asset_group.c.name.label("group_name"), _NEVER_FIRES.label("never_fires")
).outerjoin_from(
    webhook,
    asset_group,
    and_(asset_group.c.organization_id == webhook.c.organization_id, asset_group.c.id == webhook.c.asset_group_id),
)

FIELDS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": webhook.c.id,
    "Uri": webhook.c.uri,
    "PresenceId": webhook.c.presence_id,
    "AssetGroupId": webhook.c.asset_group_id,
    "Global": webhook.c.is_global,
    "Event": webhook.c.event,
    "RequestMethod": webhook.c.method,
    "RequestBody": webhook.c.body,
    "ContentType": webhook.c.content_type,
    "MaxAgeSeconds": webhook.c.max_age_seconds,
    "OnUnknown": case((webhook.c.on_unknown == OnUnknown.HOLD, "Hold"), else_="Fire"),
    "NeverFires": _NEVER_FIRES,
    "Paused": webhook.c.paused_at.is_not(None),
    "PausedReason": webhook.c.paused_reason,
    "PausedAt": webhook.c.paused_at,
}


def _one(organization_id: str, webhook_id: str) -> ColumnElement[bool]:
    return and_(webhook.c.organization_id == organization_id, webhook.c.id == webhook_id)


def _shown(row: Sequence[Any]) -> Shown:
    *values, group_name, never_fires = row
    return Shown(Webhook(*values), group_name, bool(never_fires))


async def page(transaction: AsyncConnection, principal: Principal, query: ListQuery) -> tuple[list[Shown], int | None]:
    """Those that the principal may see, oldest first if not asked otherwise."""
    statement = _SHOWN.where(visible(principal, webhook))
    rows, count = await odata.page(transaction, statement, query, FIELDS, [webhook.c.created_at, webhook.c.id])
    return [_shown(row) for row in rows], count


async def find(
    transaction: AsyncConnection, principal: Principal, webhook_id: str, *, to_change: bool = False
) -> Shown | None:
    """The webhook, where the principal may see it. `to_change`: nobody else changes it until the transaction ends."""
    query = _SHOWN.where(visible(principal, webhook), webhook.c.id == webhook_id)
    if to_change:
        query = query.with_for_update(key_share=True, of=webhook)
    row = (await transaction.execute(query)).first()
    return _shown(row) if row else None


async def add(transaction: AsyncConnection, organization_id: str, added: Webhook) -> None:
    await transaction.execute(insert(webhook).values(organization_id=organization_id, **asdict(added)))


async def change(transaction: AsyncConnection, organization_id: str, changed: Webhook) -> None:
    """All that can be changed, except the pause."""
    values = {name: value for name, value in asdict(changed).items() if name not in _IMMUTABLE}
    await transaction.execute(update(webhook).where(_one(organization_id, changed.id)).values(values))


async def remove(transaction: AsyncConnection, organization_id: str, webhook_id: str) -> None:
    """Its associations go with it, its deliveries stay. From here on no event that is being accepted can match it."""
    await transaction.execute(delete(webhook).where(_one(organization_id, webhook_id)))


async def of_presence(
    transaction: AsyncConnection, principal: Principal, presence_id: str, limit: int
) -> tuple[list[str], int]:
    """Ids of webhooks of a presence that the principal may see, at most `limit`, and how many it has in all."""
    mine = (webhook.c.organization_id == principal.organization_id, webhook.c.presence_id == presence_id)
    query = select(webhook.c.id).where(*mine, visible(principal, webhook)).order_by(webhook.c.created_at, webhook.c.id)
    seen = list((await transaction.execute(query.limit(limit))).scalars())
    count = (await transaction.execute(select(func.count()).select_from(webhook).where(*mine))).scalar_one()
    return seen, count


async def pause(
    transaction: AsyncConnection, organization_id: str, ids: Collection[str], reason: str, now: int
) -> list[str]:
    """Pauses those that are not paused yet, which no user asked for, and audits it; gives their ids."""
    changed = await transaction.execute(
        update(webhook)
        .where(webhook.c.organization_id == organization_id, webhook.c.id.in_(ids), webhook.c.paused_at.is_(None))
        .values(paused_at=now, paused_reason=reason)
        .returning(webhook.c.id, webhook.c.asset_group_id)
    )
    before, after = {"PausedReason": None}, {"PausedReason": reason}
    pauses = [Change(id_, before, after, asset_group_id) for id_, asset_group_id in changed]
    await record_unattended(transaction, organization_id, now, Activity.PAUSE, Entity.WEBHOOK, pauses)
    return [paused.entity_id for paused in pauses]


async def sealed(transaction: AsyncConnection) -> list[Sealed]:
    """All secrets, in every organization that the transaction may see."""
    query = select(webhook.c.organization_id, webhook.c.id, webhook.c.asset_group_id, webhook.c.authorization)
    rows = await transaction.execute(query.where(webhook.c.authorization.is_not(None)))
    return [Sealed(*row) for row in rows]


async def reseal(transaction: AsyncConnection, old: Sealed, authorization: str) -> bool:
    """Stores the same secret under another key; False where it was changed meanwhile."""
    changed = await transaction.execute(
        update(webhook)
        .where(_one(old.organization_id, old.webhook_id), webhook.c.authorization == old.authorization)
        .values(authorization=authorization)
    )
    return changed.rowcount == 1

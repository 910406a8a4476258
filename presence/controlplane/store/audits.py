"""The audit log: every change, in the transaction that makes it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import audit
from presence.controlplane.store.visibility import visible

Fields = Mapping[str, object]


class Activity(StrEnum):
    """What was done."""

    CREATE = "Create"
    MODIFY = "Modify"
    DELETE = "Delete"
    ASSOCIATE = "Associate"
    DISASSOCIATE = "Disassociate"
    MOVE = "Move"
    NEW_KEY = "NewKey"
    NEW_TOKEN = "NewEnrollmentToken"  # noqa: S105 - a name, no secret
    ENROLL = "Enroll"
    PAUSE = "Pause"
    RESUME = "Resume"
    TEST = "Test"
    REDELIVER = "Redeliver"
    CANCEL = "Cancel"
    RESOLVE = "Resolve"
    RESEAL = "Reseal"


class Entity(StrEnum):
    """What it was done to."""

    ORGANIZATION = "Organization"
    ROLE = "Role"
    USER = "User"
    ASSET_GROUP = "AssetGroup"
    APPLICATION = "Application"
    SCAN = "Scan"
    EXECUTION = "ScanExecution"
    PRESENCE = "Presence"
    WEBHOOK = "Webhook"
    DELIVERY = "Delivery"


def changed(before: Fields, after: Fields) -> tuple[Fields, Fields]:
    """Only the fields that differ."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


@dataclass(frozen=True, slots=True)
class Change:
    """One of many changes of a kind. `asset_group_id`: whose members may see it; None: it concerns the organization."""

    entity_id: str
    before: Fields | None = None
    after: Fields | None = None
    asset_group_id: str | None = None


async def record(
    transaction: AsyncConnection, principal: Principal, now: int, activity: Activity, entity: Entity, entity_id: str,
    *, before: Fields | None = None, after: Fields | None = None, asset_group_id: str | None = None,
) -> None:  # fmt: skip
    """Notes what the principal did. The names are the API's; secrets are masked by whoever calls this.

    `asset_group_id`: whose members may see it; None: it concerns the organization.
    """
    change = Change(entity_id, before, after, asset_group_id)
    await transaction.execute(insert(audit).values(_row(principal, now, activity, entity, change)))


async def record_all(
    transaction: AsyncConnection,
    principal: Principal,
    now: int,
    activity: Activity,
    entity: Entity,
    changes: Iterable[Change],
) -> None:
    """`record` for many at once."""
    rows = [_row(principal, now, activity, entity, change) for change in changes]
    if rows:
        await transaction.execute(insert(audit), rows)


async def record_unattended(
    transaction: AsyncConnection,
    organization_id: str,
    now: int,
    activity: Activity,
    entity: Entity,
    changes: Iterable[Change],
) -> None:
    """`record_all` for what no user did."""
    rows = [_row(None, now, activity, entity, change) | {"organization_id": organization_id} for change in changes]
    if rows:
        await transaction.execute(insert(audit), rows)


def _row(
    principal: Principal | None, now: int, activity: Activity, entity: Entity, change: Change
) -> dict[str, object]:
    by = (
        {}
        if principal is None
        else {
            "organization_id": principal.organization_id,
            "user_id": principal.user_id,
            "user_name": principal.user_name,
        }
    )
    return by | {
        "id": str(uuid4()),
        "at": now,
        "activity": activity.value,
        "entity_type": entity.value,
        "entity_id": change.entity_id,
        "asset_group_id": change.asset_group_id,
        "before": None if change.before is None else json.dumps(change.before),
        "after": None if change.after is None else json.dumps(change.after),
    }


@dataclass(frozen=True, slots=True)
class Audit:
    """A change as it was noted. `before` and `after`: JSON objects. Milliseconds since the Unix epoch."""

    id: str
    at: int
    user_id: str | None
    user_name: str | None
    activity: str
    entity_type: str
    entity_id: str
    asset_group_id: str | None
    before: str | None
    after: str | None


COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": audit.c.id,
    "CreatedAt": audit.c.at,
    "UserId": audit.c.user_id,
    "UserName": audit.c.user_name,
    "Activity": audit.c.activity,
    "EntityType": audit.c.entity_type,
    "EntityId": audit.c.entity_id,
    "AssetGroupId": audit.c.asset_group_id,
}
"""What the list is filtered and ordered by, by the API's names."""


async def page(transaction: AsyncConnection, principal: Principal, query: ListQuery) -> tuple[list[Audit], int | None]:
    """What the principal may see, the latest first."""
    statement = select(*[audit.c[name] for name in Audit.__slots__]).where(visible(principal, audit))
    rows, count = await odata.page(transaction, statement, query, COLUMNS, [audit.c.at.desc(), audit.c.id.desc()])
    return [Audit(**row._mapping) for row in rows], count

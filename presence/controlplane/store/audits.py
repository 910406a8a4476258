"""The audit log: every change, in the transaction that makes it."""

import json
from collections.abc import Mapping
from enum import StrEnum
from uuid import uuid4

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.store.tables import audit

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
    PAUSE = "Pause"
    RESUME = "Resume"
    TEST = "Test"
    REDELIVER = "Redeliver"
    CANCEL = "Cancel"
    RESOLVE = "Resolve"


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


async def record(
    transaction: AsyncConnection, principal: Principal, now: int, activity: Activity, entity: Entity, entity_id: str,
    *, before: Fields | None = None, after: Fields | None = None, asset_group_id: str | None = None,
) -> None:  # fmt: skip
    """Notes what the principal did. The names are the API's; secrets are masked by whoever calls this.

    `asset_group_id`: whose members may see it; None: it concerns the organization.
    """
    await transaction.execute(
        insert(audit).values(
            id=str(uuid4()),
            organization_id=principal.organization_id,
            at=now,
            user_id=principal.user_id,
            user_name=principal.user_name,
            activity=activity.value,
            entity_type=entity.value,
            entity_id=entity_id,
            asset_group_id=asset_group_id,
            before=None if before is None else json.dumps(before),
            after=None if after is None else json.dumps(after),
        )
    )

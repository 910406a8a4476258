"""Accepted events."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import bindparam, select

# SQLite understands what this one writes; its own construct is not understood by PostgreSQL.
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import delivery, event


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a subject. `source` and `source_event_id` name it once.

    `application_id`, `asset_group_id`: where, as far as is known. Milliseconds since the Unix epoch.
    """

    id: str
    source: str
    source_event_id: str
    type: str
    subject: str
    occurred_at: int
    created_at: int
    application_id: str | None = None
    asset_group_id: str | None = None


@dataclass(frozen=True, slots=True)
class Caused:
    """A delivery of an event, and the asset group of its webhook, which says who may see it."""

    id: str
    asset_group_id: str | None


async def add(transaction: AsyncConnection, organization_id: str, added: Event) -> bool:
    """Stores the event unless there is one of that name; says whether it did.

    Where a transaction beside this one is about to store the same, it waits for the end of that.
    """
    added_rows: Any = await transaction.execute(_ADD, {"organization_id": organization_id, **asdict(added)})
    return bool(added_rows.rowcount)


async def find(
    transaction: AsyncConnection, organization_id: str, source: str, source_event_id: str
) -> tuple[str, list[Caused]] | None:
    """The id of the event that was accepted under that name, and the deliveries that it caused itself."""
    name = {"organization_id": organization_id, "source": source, "source_event_id": source_event_id}
    event_id = (await transaction.execute(_FIND, name)).scalar()
    if event_id is None:
        return None
    caused = await transaction.execute(_CAUSED, {"organization_id": organization_id, "event_id": event_id})
    return event_id, [Caused(*row) for row in caused]


# Built once: they run for every event.
_ADD = insert(event).on_conflict_do_nothing(index_elements=["organization_id", "source", "source_event_id"])
_FIND = select(event.c.id).where(
    event.c.organization_id == bindparam("organization_id"),
    event.c.source == bindparam("source"),
    event.c.source_event_id == bindparam("source_event_id"),
)
_CAUSED = (
    select(delivery.c.id, delivery.c.asset_group_id)
    .where(
        delivery.c.organization_id == bindparam("organization_id"),
        delivery.c.event_id == bindparam("event_id"),
        delivery.c.redelivery_of.is_(None),
    )
    .order_by(delivery.c.id)
)

"""Accepted events."""

from dataclasses import asdict, dataclass

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import delivery, event


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a subject. `source` and `source_event_id` name it once for ever."""

    id: str
    source: str
    source_event_id: str
    type: str
    subject: str
    occurred_at: int
    created_at: int


async def add(transaction: AsyncConnection, organization_id: str, added: Event) -> None:
    await transaction.execute(_ADD, {"organization_id": organization_id, **asdict(added)})


async def find(
    transaction: AsyncConnection, organization_id: str, source: str, source_event_id: str
) -> tuple[str, list[str]] | None:
    """The id of the event that was accepted under that name, and the ids of its deliveries."""
    name = {"organization_id": organization_id, "source": source, "source_event_id": source_event_id}
    event_id = (await transaction.execute(_FIND, name)).scalar()
    if event_id is None:
        return None
    deliveries = select(delivery.c.id).where(delivery.c.event_id == event_id).order_by(delivery.c.id)
    return event_id, list((await transaction.execute(deliveries)).scalars())


# Built once: they run for every event.
_ADD = insert(event)
_FIND = select(event.c.id).where(
    event.c.organization_id == bindparam("organization_id"),
    event.c.source == bindparam("source"),
    event.c.source_event_id == bindparam("source_event_id"),
)

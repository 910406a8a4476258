"""Rows to begin with."""

from uuid import uuid4

from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.store import deliveries
from presence.controlplane.store.deliveries import NewDelivery
from presence.controlplane.store.engine import Database

PEER = Peer("o", "p", "k", 0)


async def queued(
    database: Database, count: int, *, host: str = "x:80", on_unknown: str = "fire", created_at: int = 0
) -> list[str]:
    """Deliveries of that peer's presence and of the webhook `w`, from time 0 to time 100."""
    ids = sorted(str(uuid4()) for _ in range(count))
    rows = [
        NewDelivery(
            id_, "w", "p", "e", "ScanExecutionCompleted", "x", "http://x/", host, "GET", None, None, on_unknown,
            created_at, 100,
        )
        for id_ in ids
    ]  # fmt: skip
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.add(transaction, "o", rows)
    return ids

"""Rows to begin with."""

from uuid import uuid4

from presence.controlplane.access import ADMINISTRATOR, EVERY_ORGANIZATION, PREDEFINED_ROLES, Peer, Principal
from presence.controlplane.store import deliveries
from presence.controlplane.store.deliveries import NewDelivery
from presence.controlplane.store.engine import Database
from presence.controlplane.store.events import Event
from presence.controlplane.store.webhooks import Webhook

PEER = Peer("o", "p", "k", 0)
EVENT = Event(
    id="e", source="s", source_event_id="1", type="ScanExecutionCompleted", subject="x", occurred_at=0, created_at=0
)
HOOK = Webhook(
    id="w", presence_id="p", uri="http://x/", host="x:80", method="GET", body=None, content_type=None,
    on_unknown="hold", event="ScanExecutionCompleted", is_global=True, asset_group_id=None, max_age_seconds=60,
    created_at=0,
)  # fmt: skip


def new_delivery(
    id_: str, *, webhook_id: str = "w", presence_id: str = "p", host: str = "x:80", on_unknown: str = "fire",
    created_at: int = 0, expires_at: int = 100,
) -> NewDelivery:  # fmt: skip
    """Of the event `EVENT`."""
    return NewDelivery(
        id=id_, webhook_id=webhook_id, asset_group_id=None, presence_id=presence_id, event_id="e",
        event_type="ScanExecutionCompleted", subject="x", uri="http://x/", host=host, method="GET", body=None,
        content_type=None, on_unknown=on_unknown, created_at=created_at, expires_at=expires_at,
    )  # fmt: skip


def administrator_of(organization_id: str) -> Principal:
    return Principal("u", "u", organization_id, "r", PREDEFINED_ROLES[ADMINISTRATOR], frozenset())


async def queued(
    database: Database, count: int, *, host: str = "x:80", on_unknown: str = "fire", created_at: int = 0
) -> list[str]:
    """Deliveries of that peer's presence and of the webhook `w`, from time 0 to time 100."""
    ids = sorted(str(uuid4()) for _ in range(count))
    rows = [new_delivery(id_, host=host, on_unknown=on_unknown, created_at=created_at) for id_ in ids]
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.add(transaction, "o", rows)
    return ids
